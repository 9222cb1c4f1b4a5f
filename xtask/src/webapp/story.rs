//! What a user does and sees: signs in, creates, follows, is refused a second one, opens it, comes back, destroys it.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

use super::browser::Browser;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a user who has an instance reads when asking for another.
const ALREADY: &str = "User already has an active instance";

/// Everything that a page can read of our server, as one text.
const ALL_THERE_IS: &str = "const paths = ['/', '/app.js', '/style.css', '/api/instance', '/instance/'];
    const texts = await Promise.all(paths.map(async (path) => {
      const answer = await fetch(path);
      return [...answer.headers].join() + await answer.text();
    }));
    return texts.join() + document.documentElement.outerHTML + document.cookie;";

/// The steps that are shown: what each is called and how far it is.
const STEPS: &str = "return [...document.querySelectorAll('#steps li')]
    .map((step) => step.firstElementChild.textContent + ': ' + step.dataset.state).join('; ');";

/// Tells it in a browser. `key` is what the browser must never see.
pub(super) async fn tell(browser: &Browser, url: &str, key: &str, pictures: Option<&Path>) -> Result<()> {
    let teller = Teller { browser, pictures, began: Instant::now() };
    teller.signs_in(url).await.context("signing in")?;
    let workspace = teller.creates().await.context("creating")?;
    teller.is_refused_another().await.context("creating another")?;
    teller.opens(&workspace).await.context("opening it")?;
    teller.comes_back(&workspace).await.context("loading the page again")?;
    let seen = browser.run(ALL_THERE_IS, &[]).await?;
    let seen = seen.as_str().context("a page that cannot be read")?;
    ensure!(seen.contains(&workspace) && seen.len() > 5_000, "too little of the page was read: {seen}");
    ensure!(!seen.contains(key), "the platform key reached the browser");
    ensure!(!seen.contains("session="), "a script can read the session");
    teller.saw(&format!("{} bytes of answers, and no key in them", seen.len()));
    teller.destroys().await.context("destroying")?;
    teller.signs_out().await.context("signing out")?;
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "the browser complains: {complaints:#?}");
    Ok(())
}

struct Teller<'a> {
    browser: &'a Browser,
    pictures: Option<&'a Path>,
    began: Instant,
}

impl Teller<'_> {
    fn saw(&self, what: &str) {
        println!("{:6.2} s  {what}", self.began.elapsed().as_secs_f64());
    }

    async fn picture(&self, name: &str) -> Result<()> {
        match self.pictures {
            Some(folder) => self.browser.picture(&folder.join(format!("{name}.png"))).await,
            None => Ok(()),
        }
    }

    async fn signs_in(&self, url: &str) -> Result<()> {
        let page = self.browser;
        page.go(url).await?;
        page.until("#sign-in", |_| true).await?;
        self.picture("1-sign-in").await?;
        page.write("#name", "alice").await?;
        page.click("#sign-in button").await?;
        let badge = page.until("#badge", |_| true).await?;
        let user = page.until("#user", |user| !user.is_empty()).await?;
        self.saw(&format!("signed in as {user}, who has: {badge}"));
        self.picture("2-nothing-yet").await?;
        ensure!((user.as_str(), badge.as_str()) == ("alice", "None"));
        Ok(())
    }

    /// Answers what the workspace is called.
    async fn creates(&self) -> Result<String> {
        let page = self.browser;
        page.click("#create").await?;
        let (mut badges, mut steps) = (Vec::new(), Vec::new());
        let began = Instant::now();
        while badges.last().is_none_or(|badge| badge != "Running") {
            ensure!(began.elapsed() < PATIENCE, "it got to {badges:?} and {steps:?}");
            if let Some(badge) = page.text("#badge").await?.filter(|badge| badges.last() != Some(badge)) {
                badges.push(badge);
            }
            let now = page.run(STEPS, &[]).await?.as_str().unwrap_or_default().to_owned();
            if now.contains(": doing") && steps.last() != Some(&now) {
                if steps.is_empty() {
                    self.picture("3-creating").await?;
                }
                steps.push(now);
            }
        }
        ensure!(badges.iter().any(|badge| badge == "Creating"), "the badge went {badges:?}");
        ensure!(!steps.is_empty(), "no step was seen under way");
        self.saw(&format!("created: {}, with {} looks at steps under way, such as", badges.join(" → "), steps.len()));
        self.saw(&format!("  {}", steps[steps.len() / 2]));
        let workspace = page.until("#sandbox", |id| id.starts_with("ki_")).await?;
        self.saw(&format!("it is {workspace}"));
        self.picture("4-running").await?;
        Ok(workspace)
    }

    async fn is_refused_another(&self) -> Result<()> {
        self.browser.click("#create").await?;
        let sentence = self.browser.until("#notice", |text| !text.is_empty()).await?;
        self.saw(&format!("another one is refused: {sentence}"));
        self.picture("5-refused").await?;
        ensure!(sentence == ALREADY);
        Ok(())
    }

    async fn opens(&self, workspace: &str) -> Result<()> {
        let page = self.browser;
        let before = page.windows().await?;
        let here = before.first().context("a browser without a window")?;
        page.click("#open").await?;
        let began = Instant::now();
        let there = loop {
            if let Some(window) = page.windows().await?.into_iter().find(|window| !before.contains(window)) {
                break window;
            }
            ensure!(began.elapsed() < PATIENCE, "nothing opened");
        };
        page.turn_to(&there).await?;
        let id = |text: &str| text.replace('-', "").contains(workspace.trim_start_matches("ki_"));
        // Its program may still be coming up.
        while !page.text("body").await?.is_some_and(|text| id(&text)) {
            ensure!(began.elapsed() < PATIENCE, "it answers {:?}", page.text("body").await?);
            tokio::time::sleep(Duration::from_millis(100)).await;
            page.reload().await?;
        }
        let origin = page.run("return self.origin", &[]).await?;
        self.saw(&format!("the instance answers in its own window, of origin {origin}"));
        ensure!(origin == "null", "what an instance says is no page of ours");
        page.turn_to(here).await
    }

    async fn comes_back(&self, workspace: &str) -> Result<()> {
        let page = self.browser;
        page.reload().await?;
        let badge = page.until("#badge", |badge| badge == "Running").await?;
        let same = page.until("#sandbox", |id| id == workspace).await?;
        self.saw(&format!("after a reload: {badge}, {same}"));
        Ok(())
    }

    async fn destroys(&self) -> Result<()> {
        let page = self.browser;
        page.click("#destroy").await?;
        page.until("#confirm", |_| true).await?;
        self.picture("6-destroy").await?;
        page.click("#confirm-destroy").await?;
        let badge = page.until("#badge", |badge| badge == "None").await?;
        let summary = page.until("#summary", |text| !text.is_empty()).await?;
        self.saw(&format!("destroyed: {badge}: {summary}"));
        ensure!(page.text("#notice").await?.is_none(), "it says {:?}", page.text("#notice").await?);
        self.picture("7-gone").await
    }

    async fn signs_out(&self) -> Result<()> {
        let page = self.browser;
        page.click("#sign-out").await?;
        page.until("#sign-in", |_| true).await?;
        page.reload().await?;
        page.until("#sign-in", |_| true).await?;
        self.saw("signed out");
        Ok(())
    }
}
