//! How a configuration is read, told as an operator would live it.

use super::*;

/// A configuration file in a folder of its own.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("freehold.toml"), text).unwrap();
        Self { folder }
    }

    fn sources(&self, environment: &[(&str, &str)]) -> Sources {
        Sources { file: Some(self.folder.path().join("freehold.toml")), ..environment_only(environment) }
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.sources(&[]))
    }

    /// The first finding and its hint, with the folder's name left out.
    fn refusal(&self, environment: &[(&str, &str)]) -> (String, String) {
        let error = Config::load(&self.sources(environment)).expect_err("this configuration is refused");
        let first = &error.findings()[0];
        let folder = format!("{}/", self.folder.path().display());
        (first.to_string().replace(&folder, ""), first.hint.clone().unwrap_or_default())
    }
}

fn environment_only(environment: &[(&str, &str)]) -> Sources {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn refused(text: &str) -> (String, String) {
    File::with(text).refusal(&[])
}

#[test]
fn with_no_file_at_all_there_is_one_provider_one_template_and_one_tier() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config.listen, "127.0.0.1:7788");
    assert_eq!(config.timing.lease, Period::from_millis(10_000));
    assert_eq!(config.providers.keys().collect::<Vec<_>>(), ["local"]);
    assert_eq!(config.templates["hello"].command, ["freehold", "hello-instance"]);
    assert_eq!(config.tiers["small"].memory_mb, 256);
    assert_eq!(config.price_versions["2026-01-01"].tier, "small");
    assert!(!config.proxy.public);
    assert_eq!(config.janitor.dry_run, DryRun::FirstStart);
}

#[test]
fn the_example_of_the_manual_is_understood() {
    let config = File::with(include_str!("example.toml")).load().unwrap();
    assert_eq!(config.node_id.as_deref(), Some("node-a"));
    assert_eq!(config.auth.jwt.unwrap().audience, "freehold");
}

#[test]
fn end_users_tokens_are_checked_in_one_way() {
    let section = |keys: &str| format!("[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\n{keys}\n");
    let config = File::with(&section("hs256_secret_env = \"USERS\"")).load().unwrap();
    let shown = Shown::of(&config, &|name| (name == "USERS").then(|| "hunter2".to_owned())).to_toml().unwrap();
    assert!(shown.contains("# auth.jwt.hs256_secret: [redacted] (from $USERS)"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    for (keys, says) in [
        ("", "auth.jwt: there is no way to check a token"),
        ("jwks_url = \"https://i\"\nhs256_secret_env = \"A\"", "auth.jwt: there are two ways to check a token"),
        ("jwks_url = \"i\"", "auth.jwt.jwks_url: `i` is not an address"),
        ("audiense = \"b\"\njwks_url = \"https://i\"", "auth.jwt.audiense: there is no such setting"),
    ] {
        let said = refused(&section(keys)).0;
        assert!(said.ends_with(says), "{said}");
    }
    let nobody = refused("[auth.jwt]\nissuer = \"i\"\naudience = \"\"\njwks_url = \"https://i\"\n").0;
    assert!(nobody.ends_with("auth.jwt.audience: this is empty"), "{nobody}");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    for (text, says, hint) in [
        ("lisen = \"x\"\n", "freehold.toml:1:1: lisen: there is no such setting", "did you mean `listen`?"),
        (
            "[timing]\nlease = \"10s\"\n  renews = \"3s\"\n",
            "freehold.toml:3:3: timing.renews: there is no such setting",
            "did you mean `renew`?",
        ),
        ("[proxi]\npublic = true\n", "freehold.toml:1:2: proxi: there is no such setting", "did you mean `proxy`?"),
        (
            "[tiers.\"a.b\"]\nrank = 1\ncolour = \"red\"\n",
            "freehold.toml:3:1: tiers.\"a.b\".colour: there is no such setting",
            "known here: rank, memory_mb, cpus, volume_gb",
        ),
        (
            "[providers.local]\nkind = \"process\"\nregions = []\n",
            "freehold.toml:3:1: providers.local.regions: there is no such setting",
            "known here: kind",
        ),
    ] {
        assert_eq!(refused(text), (says.to_owned(), hint.to_owned()));
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_place() {
    for (text, says) in [
        ("listen = 7788\n", "freehold.toml:1:10: listen: this is the number 7788, and should be a text in quotes"),
        (
            "[limits]\ninstances_per_context = \"two\"\n",
            "freehold.toml:2:25: limits.instances_per_context: this is the text \"two\", and should be a whole number, not negative",
        ),
        (
            "[limits]\ninstances_per_context = -1\n",
            "freehold.toml:2:25: limits.instances_per_context: this is the number -1, and should be a whole number, not negative",
        ),
        (
            "[proxy]\npublic = \"yes\"\n",
            "freehold.toml:2:10: proxy.public: this is the text \"yes\", and should be true or false",
        ),
        (
            "[timing]\nlease = 10\n",
            "freehold.toml:2:9: timing.lease: this is the number 10, and should be a duration in quotes, such as \"10s\"",
        ),
        ("timing = 5\n", "freehold.toml:1:10: timing: this is the number 5, and should be a section"),
        ("[tiers.big]\nmemory_mb = 5\n", "freehold.toml:1:1: tiers.big: the key `rank` is missing"),
        (
            "[templates.a]\ncommand = [\"ü\", 1]\n",
            "freehold.toml:2:17: templates.a.command: this is the number 1, and should be a text in quotes",
        ),
        (
            "[janitor]\ndry_run = \"first\"\n",
            "freehold.toml:2:11: janitor.dry_run: `first` is none of first_start, always, never",
        ),
        (
            "[providers.x]\nkind = \"flyy\"\n",
            "freehold.toml:2:8: providers.x.kind: `flyy` is none of process, fake, docker, fly",
        ),
    ] {
        assert_eq!(refused(text).0, says);
    }
    assert!(refused("[timing]\nlease = \"10\"\n").0.contains("such as \"500ms\""));
}

#[test]
fn text_that_is_not_toml_is_named_with_its_place() {
    assert!(refused("listen = \n").0.starts_with("freehold.toml:1:"), "{:?}", refused("listen = \n"));
    assert!(refused("[timing]\nlease = \"1s\"\nlease = \"2s\"\n").0.starts_with("freehold.toml:3:1: "));
    assert!(refused("[timing]\nlease = \"1s\"\nlease = \"2s\"\n").0.contains("duplicate"));
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let missing = Sources { file: Some(PathBuf::from("/no/such.toml")), ..Sources::default() };
    let error = Config::load(&missing).unwrap_err().to_string();
    assert_eq!(error, "cannot read the configuration file `/no/such.toml`: no such file or directory");
    let folder = tempfile::tempdir().unwrap();
    let folder = Sources { file: Some(folder.path().to_owned()), ..Sources::default() };
    assert!(Config::load(&folder).unwrap_err().to_string().ends_with("it is a folder"));
}

#[test]
fn settings_that_do_not_fit_together_are_all_named_at_once() {
    let file = File::with(
        "listen = \"localhost\"\n[timing]\nlease = \"4s\"\nrenew = \"3s\"\nretry_min = \"2m\"\n\
         [provision]\ndefault_provider = \"cloud\"\n[templates.none]\n[price_versions.v]\ntier = \"smal\"\n",
    );
    let error = file.load().unwrap_err();
    let folder = format!("{}/", file.folder.path().display());
    let lines: Vec<String> = error.findings().iter().map(|finding| finding.to_string().replace(&folder, "")).collect();
    assert_eq!(
        lines,
        [
            "freehold.toml:1:1: listen: `localhost` is not an address to listen on",
            "freehold.toml:7:1: provision.default_provider: there is no provider `cloud`",
            "freehold.toml:4:1: timing.renew: 3s is too long to keep a lease of 4s",
            "freehold.toml:5:1: timing.retry_min: 2m is longer than retry_max (1m)",
            "freehold.toml:8:12: templates.none: there is nothing to run",
            "freehold.toml:10:1: price_versions.v.tier: there is no tier `smal`",
        ]
    );
    assert!(error.to_string().ends_with("(and 5 more)"), "{error}");
}

#[test]
fn the_environment_overrides_the_file_and_a_flag_overrides_both() {
    let file = File::with("listen = \"127.0.0.1:1\"\n[limits]\ninstances_per_context = 2\n[timing]\nlease = \"20s\"\n");
    let sources = file.sources(&[
        ("FREEHOLD__LISTEN", "127.0.0.1:2"),
        ("FREEHOLD__LIMITS__INSTANCES_PER_CONTEXT", "3"),
        ("FREEHOLD__PROXY__PUBLIC", "true"),
        ("FREEHOLD__NODE_ID", "17"),
        ("FREEHOLD__TIERS__SMALL__CPUS", "0.5"),
        ("FREEHOLD__TEMPLATES__ECHO__COMMAND", "[\"echo\", \"a,b\"]"),
        ("FREEHOLD__TEMPLATES__HELLO__COMMAND", "echo, hello"),
        ("FREEHOLD__PRICE_VERSIONS__2026_01_01__TIER", "small"),
        ("FREEHOLD_TOKEN", "not a setting"),
    ]);
    let config = Config::load(&sources.flag("--listen", &["listen"], Some("127.0.0.1:3".to_owned()))).unwrap();
    assert_eq!(config.listen, "127.0.0.1:3");
    assert_eq!(config.limits.instances_per_context, 3);
    assert_eq!(config.timing.lease, Period::from_millis(20_000));
    assert!(config.proxy.public);
    assert_eq!(config.node_id.as_deref(), Some("17"));
    assert!((config.tiers["small"].cpus - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.templates["echo"].command, ["echo", "a,b"]);
    assert_eq!(config.templates["hello"].command, ["echo", "hello"]);
    assert_eq!(config.price_versions.len(), 1, "the version with dashes is the one the variable means");
}

#[test]
fn a_variable_that_is_no_setting_is_refused_by_its_name() {
    for (name, value, says, hint) in [
        (
            "FREEHOLD__TIMING__LEESE",
            "1s",
            "FREEHOLD__TIMING__LEESE: timing.leese: there is no such setting",
            "did you mean `lease`?",
        ),
        (
            "FREEHOLD__LIMITS__INSTANCES_PER_CONTEXT",
            "many",
            "FREEHOLD__LIMITS__INSTANCES_PER_CONTEXT: limits.instances_per_context: this is the text \"many\", and should be a \
             whole number, not negative",
            "",
        ),
        (
            "FREEHOLD__",
            "x",
            "FREEHOLD__: the name is not a setting's path",
            "join the keys with `__`: FREEHOLD__TIMING__LEASE sets timing.lease",
        ),
        (
            "FREEHOLD__LISTEN__PORT",
            "1",
            "FREEHOLD__LISTEN__PORT: `port` cannot be set: what is before it is no section",
            "",
        ),
        ("FREEHOLD__TIMING", "1", "FREEHOLD__TIMING: timing: this is the text \"1\", and should be a section", ""),
    ] {
        let refusal = File::with("").refusal(&[(name, value)]);
        assert_eq!(refusal, (says.to_owned(), hint.to_owned()));
    }
}

#[test]
fn what_a_file_lists_replaces_the_built_in_entries_and_the_defaults_follow() {
    let config = File::with("[providers.rehearsal]\nkind = \"fake\"\n[tiers.m]\nrank = 2\n[tiers.s]\nrank = 1\n")
        .load()
        .unwrap();
    assert_eq!(config.providers.keys().collect::<Vec<_>>(), ["rehearsal"]);
    assert_eq!(config.provision.default_provider, "rehearsal");
    assert_eq!(config.tiers.keys().collect::<Vec<_>>(), ["m", "s"]);
    assert_eq!(config.price_versions["2026-01-01"].tier, "s");
    assert_eq!(config.templates.len(), 1, "a section that the file does not touch stays");
}

#[test]
fn nothing_secret_is_ever_shown() {
    let file = File::with(
        "[registry]\nurl = \"postgres://me:hunter2@db/freehold\"\n[auth]\noperator_key_env = \"MY_KEY\"\n\
         [billing]\nurl = \"https://me:hunter2@billing.internal\"\n",
    );
    let config = Config::load_unchecked(&file.sources(&[])).unwrap();
    let shown = Shown::of(&config, &|name| (name == "MY_KEY").then(|| "hunter2".to_owned()));
    let (toml, json) = (shown.to_toml().unwrap(), serde_json::to_string(&shown).unwrap());
    for text in [&toml, &json, &format!("{config:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(toml.contains("postgres://me:[redacted]@db/freehold"), "{toml}");
    assert!(toml.contains("# auth.operator_key: [redacted] (from $MY_KEY)"), "{toml}");
    assert!(toml.contains("# auth.platform_key: not set (from $FREEHOLD_PLATFORM_KEY)"), "{toml}");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let config = Config::load(&Sources::default()).unwrap();
    let shown = Shown::of(&config, &|_| None).to_toml().unwrap();
    let again = File::with(&shown).load().unwrap();
    assert_eq!(Shown::of(&again, &|_| None).to_toml().unwrap(), shown);
}

#[test]
fn a_secret_has_one_place() {
    let (says, hint) = refused("[auth]\noperator_key_env = \"A\"\noperator_key_file = \"/b\"\n");
    assert_eq!(
        says,
        "freehold.toml:3:1: auth.operator_key_file: `auth.operator_key` is named by a variable and by a file"
    );
    assert_eq!(hint, "keep one");
    File::with("[auth]\noperator_key_file = \"/b\"\n").load().unwrap();
}

#[test]
fn a_docker_engine_has_usual_settings_and_each_can_be_another() {
    let ProviderConfig::Docker(usual) =
        &File::with("[providers.d]\nkind = \"docker\"\n").load().unwrap().providers["d"]
    else {
        panic!("a docker provider")
    };
    assert_eq!(usual.host, "unix:///var/run/docker.sock");
    assert_eq!(usual.settle_horizon, Period::from_millis(10_000));
    assert!(usual.init);
    let file = File::with(
        "[providers.d]\nkind = \"docker\"\nhost = \"https://docker.internal\"\ntls_ca = \"ca.pem\"\ntls_cert = \"me.pem\"\n\
         tls_key = \"me.key\"\nrequest_timeout = \"30s\"\npull_timeout = \"5m\"\nstop_grace = \"15s\"\n\
         settle_horizon = \"20s\"\nport = 80\nvolume_path = \"/var/lib/x\"\nnetwork = \"inner\"\n\
         publish_address = \"10.0.0.1\"\ninit = false\n",
    );
    let ProviderConfig::Docker(config) = &file.load().unwrap().providers["d"] else { panic!("a docker provider") };
    let options = config.options().unwrap();
    assert_eq!(options.host.to_string(), "https://docker.internal:2376");
    assert_eq!(options.tls.key.as_deref(), Some(Path::new("me.key")));
    assert_eq!((options.port, options.network.as_deref(), options.init), (80, Some("inner"), false));
}

#[test]
fn settings_of_a_docker_engine_that_cannot_work_are_named() {
    for (text, says) in [
        ("host = \"docker\"", "3:1: providers.d.host: `docker` is no engine's address"),
        ("host = \"https://d\"", "1:12: providers.d.tls_ca: nothing says who signs the engine's certificate"),
        ("tls_key = \"a\"", "1:12: providers.d.tls_cert: a certificate and its key go together"),
        ("request_timeout = \"5ms\"", "3:1: providers.d.request_timeout: 5ms is too short"),
        ("stop_grace = \"11s\"", "3:1: providers.d.stop_grace: 11s leaves a call of 20s no time"),
        ("port = 0", "3:1: providers.d.port: programs cannot listen on port 0"),
        ("volume_path = \"data\"", "3:1: providers.d.volume_path: `data` is no folder of a container"),
        (
            "publish_address = \"0.0.0.0\"",
            "3:1: providers.d.publish_address: `0.0.0.0` is no address at which a port can be reached",
        ),
        ("restart = \"always\"", "3:1: providers.d.restart: there is no such setting"),
        ("regions = []", "3:1: providers.d.regions: there is no such setting"),
    ] {
        let said = refused(&format!("[providers.d]\nkind = \"docker\"\n{text}\n")).0;
        assert_eq!(said.replace("freehold.toml:", ""), says);
    }
}

#[test]
fn settings_of_a_billing_service_that_cannot_work_are_named() {
    let good = "kind = \"http\"\nurl = \"https://billing.internal\"\nsecret_env = \"S\"\n";
    assert!(File::with(&format!("[billing]\n{good}")).load().is_ok());
    for (text, says) in [
        ("kind = \"http\"\nsecret_env = \"S\"", "billing.url: kind \"http\" needs an address"),
        ("kind = \"http\"\nurl = \"ftp://x\"\nsecret_env = \"S\"", "billing.url: kind \"http\" needs an address"),
        ("kind = \"http\"\nurl = \"http://x\"", "billing.secret_env: kind \"http\" needs a secret to sign with"),
        (&format!("{good}request_timeout = \"0s\""), "billing.request_timeout: this must be longer than 0s"),
        (
            &format!("{good}fallback = \"local\"\nprice_version = \"2027\""),
            "billing.price_version: there is no price version `2027`",
        ),
    ] {
        let (seen, _) = refused(&format!("[billing]\n{text}\n"));
        assert!(seen.ends_with(says), "{seen}");
    }
}
