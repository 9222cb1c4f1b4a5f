//! What every command needs: the flags, the way out, the server, the configuration.

use std::path::PathBuf;

use freehold_api::client::{Client, Token};

use crate::cli::Globals;
use crate::config::{Config, Secret, Sources, read_file};
use crate::exit::Failure;
use crate::output::Output;

/// The variable with the key to show to a server.
const TOKEN_ENV: &str = "FREEHOLD_TOKEN";

/// The file in the data folder with the key that a server minted for its operator.
pub(crate) const OPERATOR_KEY_FILE: &str = "operator.key";

/// The surroundings of one command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The flags.
    pub(crate) globals: Globals,
    /// The way out.
    pub(crate) output: Output,
}

impl Context {
    /// The surroundings that the flags describe.
    pub(crate) fn new(globals: Globals) -> Self {
        let output = Output { json: globals.json };
        Self { globals, output }
    }

    /// Where settings come from: the file, the environment, the flags.
    pub(crate) fn sources(&self) -> Sources {
        let data_dir = self.globals.data_dir.as_ref().map(|path| path.to_string_lossy().into_owned());
        Sources::of_process(self.globals.config.clone()).flag("--data-dir", &["data_dir"], data_dir)
    }

    /// The data folder, without judging the rest of the configuration.
    ///
    /// # Errors
    /// A configuration that cannot be read.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        Ok(Config::load_unchecked(&self.sources())?.data_dir)
    }

    /// The server, with the best key at hand. Without any, the server says what it thinks of that.
    ///
    /// # Errors
    /// A key file that is named and cannot be read, a key or an address of the wrong form.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = self.token()?.map(|secret| Token::new(secret.expose())).transpose()?;
        Ok(Client::new(&self.globals.server, token)?)
    }

    fn token(&self) -> Result<Option<Secret>, Failure> {
        if let Ok(text) = std::env::var(TOKEN_ENV)
            && !text.trim().is_empty()
        {
            return Ok(Some(Secret::new(text)));
        }
        if let Some(path) = &self.globals.token_file {
            let secret = read_file(path).map_err(|error| {
                Failure::usage(error.to_string()).hint("--token-file names a file that holds nothing but a key")
            })?;
            return Ok(Some(secret));
        }
        let path = self.data_dir()?.join(OPERATOR_KEY_FILE);
        match path.try_exists() {
            Ok(true) => read_file(&path).map(Some).map_err(|error| {
                Failure::usage(error.to_string())
                    .hint("run this as the user that the server runs as, or give a key in FREEHOLD_TOKEN")
            }),
            Ok(false) | Err(_) => Ok(None),
        }
    }
}
