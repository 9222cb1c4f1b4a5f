//! `instance`: create, see and change instances.

use std::pin::pin;
use std::time::Duration;

use clap::{Args, Subcommand};
use freehold_api::client::{Client, ClientError, Outcome};
use freehold_api::v1::instances::{
    Changed, CreateInstance, Destroyed, Instance as View, InstanceList, InstanceStatus, ListInstances, UpdateInstance,
};
use freehold_api::v1::operations::Operation;
use freehold_api::{IdempotencyKey, Prefer};
use futures_util::StreamExt as _;
use uuid::Uuid;

use super::Context;
use super::confirm::Confirm;
use super::spec::SpecArgs;
use super::watch::{Until, Wait, follow, outcome};
use crate::exit::Failure;
use crate::output::{fields, maybe, say, table, word};

/// Create, see and change instances.
#[derive(Debug, Subcommand)]
pub(crate) enum Instance {
    /// Create the one instance of a context, showing the steps as they happen
    #[command(after_help = "\
Examples:
  freehold instance create user:alice
  freehold instance create org:acme --assigned-user alice --tier small
  freehold instance create user:alice --env GREETING=hi --secret-env API_KEY -- ./server --port 0
  freehold instance create user:alice --no-wait --json")]
    Create(Create),
    /// List instances, oldest first; destroyed ones only with --status destroyed
    #[command(
        after_help = "Examples:\n  freehold instance list --owner user:alice\n  freehold instance list --status running --json"
    )]
    List(List),
    /// Show one instance; destroyed ones stay readable
    Show(One),
    /// Give an instance another spec or tier
    #[command(
        after_help = "Examples:\n  freehold instance update 01990000-0000-7000-8000-000000000001 --env GREETING=hello"
    )]
    Update(Update),
    /// Start an instance; one that is up is success
    Start(Power),
    /// Stop an instance; one that is down is success
    Stop(Power),
    /// Stop and start an instance
    Restart(Power),
    /// Destroy an instance for ever, from any state; repeating it is success
    #[command(
        after_help = "Examples:\n  freehold instance destroy 01990000-0000-7000-8000-000000000001 --yes --reason 'trial ended'"
    )]
    Destroy(Destroy),
    /// Print what an instance wrote to its log
    #[command(
        after_help = "Examples:\n  freehold instance logs 01990000-0000-7000-8000-000000000001 --tail 20 --follow"
    )]
    Logs(Logs),
}

/// The arguments of `create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Whose: user:ID or org:ID
    owner: String,
    /// For whom; needed for org:
    #[arg(long, value_name = "USER")]
    assigned_user: Option<String>,
    /// Which provider [default: the configuration's]
    #[arg(long)]
    provider: Option<String>,
    /// Which tier [default: the plan's]
    #[arg(long)]
    tier: Option<String>,
    /// Regions to try, in order, with commas between them
    #[arg(long, value_name = "REGIONS")]
    region: Option<String>,
    #[command(flatten)]
    spec: SpecArgs,
    /// Give the same answer to every create with this key and body [default: a new one]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    #[command(flatten)]
    wait: Wait,
}

/// The arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this owner's
    #[arg(long)]
    owner: Option<String>,
    /// Only those for this person
    #[arg(long, value_name = "USER")]
    assigned_user: Option<String>,
    /// Only those in this status
    #[arg(long, value_parser = status)]
    status: Option<InstanceStatus>,
    /// How many at most
    #[arg(long)]
    limit: Option<u32>,
    /// Where the last page ended
    #[arg(long)]
    cursor: Option<String>,
}

/// One instance.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The instance
    id: Uuid,
}

/// The arguments of `update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The instance
    id: Uuid,
    /// The tier to move to
    #[arg(long)]
    tier: Option<String>,
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    wait: Wait,
}

/// The arguments of `start`, `stop` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct Power {
    /// The instance
    id: Uuid,
    #[command(flatten)]
    wait: Wait,
}

/// The arguments of `destroy`.
#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// The instance
    id: Uuid,
    /// Why, for the audit trail
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    confirm: Confirm,
    #[command(flatten)]
    wait: Wait,
}

/// The arguments of `logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The instance
    id: Uuid,
    /// Only so many lines from the end
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// Go on with what comes
    #[arg(long, short)]
    follow: bool,
}

fn status(text: &str) -> Result<InstanceStatus, String> {
    InstanceStatus::ALL.iter().copied().find(|status| status.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = InstanceStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("use one of {}", known.join(", "))
    })
}

impl Instance {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::Create(create) => create.run(context, &client).await,
            Self::List(list) => list.run(context, &client).await,
            Self::Show(One { id }) => context.output.show(&client.instance(id).await?, people),
            Self::Update(update) => update.run(context, &client).await,
            Self::Start(Power { id, wait }) => settle(context, &client, client.start(id).await?, wait, "running").await,
            Self::Stop(Power { id, wait }) => settle(context, &client, client.stop(id).await?, wait, "stopped").await,
            Self::Restart(Power { id, wait }) => {
                settle(context, &client, client.restart(id).await?, wait, "running").await
            }
            Self::Destroy(destroy) => destroy.run(context, &client).await,
            Self::Logs(logs) => logs.run(context, &client).await,
        }
    }
}

impl Create {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let Self { owner, assigned_user, provider, tier, region, spec, idempotency_key, wait } = self;
        let spec = spec.read()?;
        let body = CreateInstance { owner, assigned_user, provider, tier, region, spec, instance_id: None };
        let key = match idempotency_key {
            Some(key) => key,
            None => mint_key()?,
        };
        // The work is followed, not waited for inside the request: progress can be shown, and a cut connection is
        // no loss.
        let prefer = Prefer { respond_async: true, wait: None };
        let created = client.create(&body, Some(&key), prefer).await.map_err(|error| may_have_happened(error, &key))?;
        match (created.outcome, wait.longest()) {
            (Outcome::Done(instance), _) => context.output.show(&instance, people),
            (Outcome::Accepted { operation, .. }, None) => accepted(context, &operation),
            (Outcome::Accepted { operation, .. }, Some(longest)) => {
                say(&format!("creating instance {} for {}", operation.instance_id, operation.owner));
                finish(context, client, &operation, longest).await
            }
        }
    }
}

fn mint_key() -> Result<IdempotencyKey, Failure> {
    let text = Uuid::now_v7().to_string();
    text.parse().map_err(|_| Failure::failed(format!("{text} is no idempotency key")))
}

/// A create whose answer is lost may have happened: the key finds out.
fn may_have_happened(error: ClientError, key: &IdempotencyKey) -> Failure {
    let sent = matches!(&error, ClientError::Unreachable { source, .. } if !source.is_connect());
    let failure = Failure::from(error);
    if sent {
        return failure.hint(format!("it may have been accepted; repeat it with --idempotency-key {key} to find out"));
    }
    failure
}

fn accepted(context: &Context, operation: &Operation) -> Result<(), Failure> {
    context.output.show(operation, |operation| {
        fields([
            ("operation", operation.id.to_string()),
            ("instance", operation.instance_id.to_string()),
            ("status", word(operation.status)),
            ("follow", format!("freehold operation watch {}", operation.id)),
        ])
    })
}

/// Follows an operation to its outcome, and shows the instance.
async fn finish(context: &Context, client: &Client, operation: &Operation, longest: Duration) -> Result<(), Failure> {
    let operation = follow(client, operation.id, Until::Decided, longest).await?;
    outcome(&operation)?;
    context.output.show(&client.instance(operation.instance_id).await?, people)
}

impl List {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let Self { owner, assigned_user, status, limit, cursor } = self;
        let list = client.instances(&ListInstances { owner, assigned_user, status, limit, cursor }).await?;
        context.output.show(&list, |InstanceList { instances, .. }| {
            let rows = instances.iter().map(|instance| {
                [
                    instance.id.to_string(),
                    instance.owner.clone(),
                    instance.assigned_user.clone(),
                    instance.status.as_str().to_owned(),
                    instance.tier.clone(),
                    instance.provider.clone(),
                    maybe(instance.url.as_ref()),
                ]
            });
            table(["id", "owner", "for", "status", "tier", "provider", "url"], rows)
        })?;
        super::more(context, list.next_cursor.as_deref());
        Ok(())
    }
}

impl Update {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let Self { id, tier, spec, wait } = self;
        let body = UpdateInstance { spec: spec.read()?, tier };
        if body.spec.is_none() && body.tier.is_none() {
            return Err(
                Failure::usage("this changes nothing").hint("say what should change: --tier, --template, --env, …")
            );
        }
        match (client.update(id, &body).await?, wait.longest()) {
            (Outcome::Done(instance), _) => context.output.show(&instance, people),
            (Outcome::Accepted { operation, .. }, None) => accepted(context, &operation),
            (Outcome::Accepted { operation, .. }, Some(longest)) => finish(context, client, &operation, longest).await,
        }
    }
}

/// Waits until a start, stop or restart is done.
async fn settle(context: &Context, client: &Client, changed: Changed, wait: Wait, done: &str) -> Result<(), Failure> {
    let mut changed = changed;
    if let (true, Some(longest), Some(operation)) = (changed.changed, wait.longest(), changed.instance.operation_id)
        && changed.instance.status.as_str() != done
    {
        outcome(&follow(client, operation, Until::Over, longest).await?)?;
        changed.instance = client.instance(changed.instance.id).await?;
    }
    context.output.show(&changed, |Changed { changed, instance }| {
        let before = if *changed { "" } else { "it was there already\n" };
        format!("{before}{}", people(instance))
    })
}

impl Destroy {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let Self { id, reason, confirm, wait } = self;
        if confirm.is_needed("destroying an instance")? {
            let instance = client.instance(id).await?;
            Confirm::ask(&format!(
                "This destroys instance {id} of {} ({}) with everything it stored, for ever.",
                instance.owner,
                instance.status.as_str()
            ))?;
        }
        let mut destroyed = client.destroy(id, reason.as_deref()).await?;
        if let (false, Some(longest), Some(operation)) = (destroyed.finalized, wait.longest(), destroyed.operation_id) {
            outcome(&follow(client, operation, Until::Over, longest).await?)?;
            // Repeating it tells how it ended.
            destroyed = client.destroy(id, None).await?;
        }
        context.output.show(&destroyed, |destroyed| {
            let Destroyed { finalized, instance_id, operation_id, destroyed_at, pending } = destroyed;
            fields([
                ("instance", instance_id.to_string()),
                ("status", if *finalized { "destroyed" } else { "being destroyed" }.to_owned()),
                ("destroyed", maybe(*destroyed_at)),
                ("left", pending.as_ref().map(|pending| super::resources(pending)).unwrap_or_default()),
                ("operation", if *finalized { String::new() } else { maybe(*operation_id) }),
            ])
        })
    }
}

impl Logs {
    async fn run(self, context: &Context, client: &Client) -> Result<(), Failure> {
        let mut log = pin!(client.logs(self.id, self.tail, self.follow).await?);
        let mut rest = Vec::new();
        while let Some(chunk) = log.next().await {
            rest.extend_from_slice(&chunk?);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                print_line(context, &line[..end])?;
            }
        }
        if rest.is_empty() { Ok(()) } else { print_line(context, &rest) }
    }
}

fn print_line(context: &Context, line: &[u8]) -> Result<(), Failure> {
    let line = String::from_utf8_lossy(line);
    if context.output.json {
        return context.output.json_line(&serde_json::json!({ "line": line }));
    }
    context.output.text(&line)
}

/// An instance for people.
fn people(instance: &View) -> String {
    let View {
        id,
        owner,
        assigned_user,
        provider,
        status,
        routable,
        tier,
        region,
        endpoint,
        url,
        spec,
        subscription,
        resources,
        epoch,
        created_at,
        ready_at,
        destroyed_at,
        operation_id,
    } = instance;
    let status = if *routable { status.as_str().to_owned() } else { format!("{} (not routable)", status.as_str()) };
    let runs = [spec.template.clone(), spec.image.clone(), spec.command.as_ref().map(|command| command.join(" "))];
    fields([
        ("id", id.to_string()),
        ("owner", owner.clone()),
        ("for", assigned_user.clone()),
        ("status", status),
        ("tier", tier.clone()),
        ("provider", provider.clone()),
        ("region", maybe(region.as_ref())),
        ("runs", runs.into_iter().flatten().collect::<Vec<_>>().join(" · ")),
        ("endpoint", maybe(endpoint.as_ref())),
        ("url", maybe(url.as_ref())),
        (
            "plan",
            subscription.as_ref().map(|plan| format!("{} ({})", plan.price_version, plan.status)).unwrap_or_default(),
        ),
        ("resources", super::resources(resources)),
        ("epoch", epoch.to_string()),
        ("created", created_at.to_string()),
        ("ready", maybe(*ready_at)),
        ("destroyed", maybe(*destroyed_at)),
        ("operation", maybe(*operation_id)),
    ])
}
