//! A browser, driven over WebDriver: a handful of JSON calls to chromedriver, which do not need a crate with its own HTTP
//! client below it.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::http::Connection;

/// How long anything on a page may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a page is looked at meanwhile: what a user sees for a moment only is seen.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// How WebDriver names the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The text of an element that can be seen, else null.
const TEXT: &str = "const it = document.querySelector(arguments[0]);
    return it && it.checkVisibility() ? it.innerText.trim() : null;";

/// A browser with one session. Dropping it kills it.
pub(super) struct Browser {
    driver: Child,
    address: String,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver leads a group, in which its browsers are.
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts one with a profile of its own in `folder`.
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("chromedriver.log"))?)
            .process_group(0)
            .spawn()
            .context("starting chromedriver")?;
        let stdout = driver.stdout.take().context("a driver without a standard output")?;
        let mut browser = Self { driver, address: String::new(), session: String::new() };
        let mut lines = BufReader::new(stdout).lines();
        let port = loop {
            let line = lines.next().context("chromedriver did not come up")??;
            if let Some((_, port)) = line.rsplit_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // It goes on writing, and must never write into nothing.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        browser.address = format!("127.0.0.1:{port}");
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1100,800",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.call("POST", "", &wanted).await?;
        browser.session = session["sessionId"].as_str().context("a session without an id")?.to_owned();
        Ok(browser)
    }

    /// Ends the session, and the browser with it.
    pub(super) async fn end(&mut self) {
        // Whatever is left is killed.
        let _ = self.call("DELETE", "", &Value::Null).await;
    }

    async fn call(&self, method: &str, command: &str, body: &Value) -> Result<Value> {
        let path = match self.session.as_str() {
            "" => "/session".to_owned(),
            session => format!("/session/{session}{command}"),
        };
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answer = Connection::open(&self.address).await?.send(request.as_bytes()).await?;
        let status = answer.status;
        let value = answer.json()?["value"].take();
        if status != 200 {
            bail!("the browser refuses {method} {path}: {}: {}", value["error"], value["message"]);
        }
        Ok(value)
    }

    /// Goes to a page.
    pub(super) async fn go(&self, url: &str) -> Result<()> {
        self.call("POST", "/url", &json!({ "url": url })).await.map(drop)
    }

    /// Loads the page again.
    pub(super) async fn reload(&self) -> Result<()> {
        self.call("POST", "/refresh", &json!({})).await.map(drop)
    }

    /// Runs a function's body on the page. A promise is waited for.
    pub(super) async fn run(&self, script: &str, arguments: &[&str]) -> Result<Value> {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": arguments})).await
    }

    /// The text of what can be seen; `None` if it cannot.
    pub(super) async fn text(&self, selector: &str) -> Result<Option<String>> {
        Ok(self.run(TEXT, &[selector]).await?.as_str().map(str::to_owned))
    }

    async fn element(&self, selector: &str) -> Result<String> {
        let found = self.call("POST", "/element", &json!({"using": "css selector", "value": selector})).await?;
        Ok(found[ELEMENT].as_str().context("an element without an id")?.to_owned())
    }

    /// Clicks where a user would: on what can be seen and is in nobody's way.
    pub(super) async fn click(&self, selector: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.call("POST", &format!("/element/{element}/click"), &json!({})).await.map(drop)
    }

    /// Types into a field.
    pub(super) async fn write(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.call("POST", &format!("/element/{element}/value"), &json!({ "text": text })).await.map(drop)
    }

    /// Looks until the text of what can be seen is as wanted, and answers it.
    pub(super) async fn until(&self, selector: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let began = Instant::now();
        loop {
            let seen = self.text(selector).await?;
            if let Some(text) = seen.as_ref().filter(|text| wanted(text)) {
                return Ok(text.clone());
            }
            if began.elapsed() > PATIENCE {
                bail!("`{selector}` stays {seen:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The windows and tabs that are open.
    pub(super) async fn windows(&self) -> Result<Vec<String>> {
        let handles = self.call("GET", "/window/handles", &Value::Null).await?;
        Ok(handles.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Turns to a window.
    pub(super) async fn turn_to(&self, window: &str) -> Result<()> {
        self.call("POST", "/window", &json!({ "handle": window })).await.map(drop)
    }

    /// What the browser complained about since this was last asked. Answers that are errors are none of it: a page that
    /// is refused something says so to its user.
    pub(super) async fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.call("POST", "/se/log", &json!({"type": "browser"})).await?;
        let entries = entries.as_array().into_iter().flatten();
        let bad = entries.filter(|entry| entry["level"] == "SEVERE" && entry["source"] != "network");
        Ok(bad.map(|entry| entry["message"].to_string()).collect())
    }

    /// Takes a picture of the page.
    pub(super) async fn picture(&self, file: &Path) -> Result<()> {
        let picture = self.call("GET", "/screenshot", &Value::Null).await?;
        let mut decoder = Command::new("base64");
        let decoder = decoder.arg("-d").stdin(Stdio::piped()).stdout(File::create(file)?);
        let mut decoder = decoder.spawn().context("starting base64")?;
        let mut input = decoder.stdin.take().context("a decoder without an input")?;
        input.write_all(picture.as_str().context("a picture that is no text")?.as_bytes())?;
        drop(input);
        decoder.wait()?;
        Ok(())
    }
}
