//! What goes wrong, when, and how often. A rule decides by counting and by its own seeded dice, never by the clock, so
//! the same calls meet the same faults.

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::call::{Call, Endpoint};
use crate::chance::Chance;

/// How a call is held open when a client never leaves: the connection is cut then. Milliseconds.
const HOLD_MS_DEFAULT: u64 = 60_000;
/// Longer than what a client should be ready to read. Bytes.
const HUGE_BYTES_DEFAULT: u64 = 50 * 1024 * 1024;
/// Most bytes that a huge answer may be told to have.
const HUGE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Most rules at a time; a script that adds more has lost its way.
const RULES_MAX: usize = 1000;

/// What happens to a call. `effect` says whether the call is carried out although the client is told otherwise, or
/// nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The call is carried out this much later, and answered. Combines with another fault.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// No answer: the connection stays open until the client leaves.
    Timeout {
        /// Whether the call is carried out.
        effect: bool,
        /// After this many milliseconds the connection is cut.
        #[serde(default = "hold")]
        cap_ms: u64,
    },
    /// No answer: the connection is closed.
    Cut {
        /// Whether the call is carried out.
        effect: bool,
    },
    /// No answer now; the call is carried out later, whatever the world is like by then. Where it cannot be, it is
    /// refused silently, and counted.
    Late {
        /// Milliseconds until it is carried out.
        ms: u64,
        /// Whether the connection stays open until the client leaves, instead of being closed.
        #[serde(default)]
        hold: bool,
    },
    /// This status, whatever the call came to.
    Status {
        /// The status.
        status: u16,
        /// Whether the call is carried out.
        #[serde(default)]
        effect: bool,
        /// The text of `error`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The word of `status` in the body, such as `insufficient_capacity`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// `Retry-After`, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// The call is carried out, and its JSON stops in the middle.
    TruncatedJson,
    /// A page for humans instead of JSON.
    Html {
        /// The status, such as 200 or 502.
        status: u16,
        /// Whether the call is carried out.
        #[serde(default)]
        effect: bool,
    },
    /// The call is carried out, and its answer is valid JSON that does not want to end.
    Huge {
        /// How long it is.
        #[serde(default = "huge")]
        bytes: u64,
    },
    /// Whatever is younger than this answers 404 when it is read by its id, and is left out of lists. Combines with
    /// another fault.
    Hidden {
        /// Milliseconds from its creation.
        ms: u64,
    },
    /// A list leaves out everything, every other time, the first time included. Combines with another fault.
    Flap,
    /// The clock is off by this much: `Date`, and every time in the answer. Combines with another fault.
    ClockOff {
        /// Seconds; negative is slow.
        seconds: i64,
    },
}

fn hold() -> u64 {
    HOLD_MS_DEFAULT
}

fn huge() -> u64 {
    HUGE_BYTES_DEFAULT
}

impl Fault {
    /// The name in counters, as `kind` in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Timeout { .. } => "timeout",
            Self::Cut { .. } => "cut",
            Self::Late { .. } => "late",
            Self::Status { .. } => "status",
            Self::TruncatedJson => "truncated_json",
            Self::Html { .. } => "html",
            Self::Huge { .. } => "huge",
            Self::Hidden { .. } => "hidden",
            Self::Flap => "flap",
            Self::ClockOff { .. } => "clock_off",
        }
    }

    /// No answer until the client leaves.
    #[must_use]
    pub fn timeout(effect: bool) -> Self {
        Self::Timeout { effect, cap_ms: HOLD_MS_DEFAULT }
    }

    /// A status with a text that says it was made up.
    #[must_use]
    pub fn status(status: u16, effect: bool) -> Self {
        Self::Status { status, effect, error: None, code: None, retry_after: None }
    }

    /// 412, as Fly answers when the host of a volume, or a region, has no room.
    #[must_use]
    pub fn capacity() -> Self {
        Self::refusal(412, "insufficient resources to create new machine with existing volume", "insufficient_capacity")
    }

    /// 409 `aborted: machine update failed due to concurrent update`.
    #[must_use]
    pub fn conflict() -> Self {
        Self::Status {
            status: 409,
            effect: false,
            error: Some("aborted: machine update failed due to concurrent update".to_owned()),
            code: None,
            retry_after: None,
        }
    }

    /// 429 with `Retry-After`.
    #[must_use]
    pub fn rate_limited(retry_after: u64) -> Self {
        Self::Status { status: 429, effect: false, error: None, code: None, retry_after: Some(retry_after) }
    }

    /// A status that refuses, with a text and a word of one's own.
    #[must_use]
    pub fn refusal(status: u16, error: &str, code: &str) -> Self {
        Self::Status {
            status,
            effect: false,
            error: Some(error.to_owned()),
            code: Some(code.to_owned()),
            retry_after: None,
        }
    }

    /// Whether it leaves room for another fault of the same call.
    fn combines(&self) -> bool {
        matches!(self, Self::Delay { .. } | Self::Hidden { .. } | Self::Flap | Self::ClockOff { .. })
    }

    /// Why this fault cannot be carried out.
    fn objection(&self) -> Option<&'static str> {
        match self {
            Self::Status { status, .. } | Self::Html { status, .. } if !(200..600).contains(status) => {
                Some("a status is from 200 to 599")
            }
            Self::Huge { bytes } if *bytes > HUGE_BYTES_MAX => Some("a huge answer has at most 1 GiB"),
            _ => None,
        }
    }
}

/// The answer of a made-up status. The texts stand in for what Fly says in such a case; nobody may read them.
pub(crate) fn status_answer(status: u16, error: Option<&str>, code: Option<&str>, retry_after: Option<u64>) -> Answer {
    let said = match status {
        401 => "unauthorized",
        408 => "deadline_exceeded: the request took too long",
        409 => "aborted: conflict",
        429 => "rate limit exceeded",
        500..=599 => "internal: something went wrong",
        _ => "made up",
    };
    let error = error.unwrap_or(said);
    let mut answer = match code {
        Some(code) => Answer::coded(status, error, code),
        None => Answer::error(status, error),
    };
    answer.retry_after = retry_after.or((status == 429).then_some(1));
    answer
}

/// When a fault happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The endpoint, or `any`.
    pub endpoint: Endpoint,
    /// The app, or `*`.
    #[serde(default = "every")]
    pub app: String,
    /// What happens.
    pub fault: Fault,
    /// How many of the calls that match are left alone first.
    #[serde(default)]
    pub after: u64,
    /// How often it happens; without it, always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How likely it is each time, from 0 to 1; without it, it is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// The seed of the rule's own dice.
    #[serde(default)]
    pub seed: u64,
}

fn every() -> String {
    "*".to_owned()
}

impl Rule {
    /// Every call of an endpoint, in every app.
    #[must_use]
    pub fn always(endpoint: Endpoint, fault: Fault) -> Self {
        Self { endpoint, app: every(), fault, after: 0, count: None, chance: None, seed: 0 }
    }

    /// The next call of an endpoint.
    #[must_use]
    pub fn once(endpoint: Endpoint, fault: Fault) -> Self {
        Self { count: Some(1), ..Self::always(endpoint, fault) }
    }

    /// Some calls of an endpoint, picked by a seed. `chance` is from 0 to 1.
    #[must_use]
    pub fn sometimes(endpoint: Endpoint, fault: Fault, chance: f64, seed: u64) -> Self {
        Self { chance: Some(chance), seed, ..Self::always(endpoint, fault) }
    }

    /// Only in this app.
    #[must_use]
    pub fn in_app(self, app: &str) -> Self {
        Self { app: app.to_owned(), ..self }
    }

    /// Only after this many calls that match.
    #[must_use]
    pub fn after(self, calls: u64) -> Self {
        Self { after: calls, ..self }
    }

    /// At most this often.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Why this rule cannot be taken.
    fn objection(&self) -> Option<&'static str> {
        match self.chance {
            Some(chance) if !(0.0..=1.0).contains(&chance) => Some("a chance is from 0 to 1"),
            _ => self.fault.objection(),
        }
    }
}

/// What is to be done to one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) delay_ms: u64,
    pub(crate) hide_ms: u64,
    pub(crate) flap: bool,
    pub(crate) clock_off: i64,
    /// The one fault that decides what the client gets.
    pub(crate) last: Option<Fault>,
    /// The names of everything that was met.
    pub(crate) met: Vec<&'static str>,
}

/// The rules in force, with what each has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Running>);

#[derive(Debug)]
struct Running {
    rule: Rule,
    dice: Chance,
    /// Calls that matched.
    matched: u64,
    /// Times that it happened.
    happened: u64,
}

impl Rules {
    /// Takes all of them, or none.
    pub(crate) fn add(&mut self, rules: Vec<Rule>) -> Result<(), String> {
        if let Some(objection) = rules.iter().find_map(Rule::objection) {
            return Err(objection.to_owned());
        }
        if self.0.len() + rules.len() > RULES_MAX {
            return Err(format!("at most {RULES_MAX} rules"));
        }
        for rule in rules {
            let dice = Chance::of(rule.seed);
            self.0.push(Running { rule, dice, matched: 0, happened: 0 });
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Every rule, with how often it matched and happened.
    pub(crate) fn list(&self) -> Vec<(Rule, u64, u64)> {
        self.0.iter().map(|running| (running.rule.clone(), running.matched, running.happened)).collect()
    }

    /// Asks every rule in order. The first one that decides the answer is the last one asked of that sort.
    pub(crate) fn plan(&mut self, call: &Call) -> Plan {
        let mut plan = Plan::default();
        for running in &mut self.0 {
            if plan.last.is_some() && !running.rule.fault.combines() {
                continue;
            }
            if running.happens(call) {
                plan.take(running);
            }
        }
        plan
    }
}

impl Running {
    fn happens(&mut self, call: &Call) -> bool {
        let rule = &self.rule;
        let here = rule.endpoint == Endpoint::Any || rule.endpoint == call.endpoint;
        if !here || (rule.app != "*" && rule.app != call.app) {
            return false;
        }
        self.matched += 1;
        let due = self.matched > rule.after && rule.count.is_none_or(|count| self.happened < count);
        if !due || !rule.chance.is_none_or(|chance| self.dice.happens(chance)) {
            return false;
        }
        self.happened += 1;
        true
    }
}

impl Plan {
    fn take(&mut self, running: &Running) {
        match &running.rule.fault {
            Fault::Delay { ms } => self.delay_ms = self.delay_ms.saturating_add(*ms),
            Fault::Hidden { ms } => self.hide_ms = self.hide_ms.max(*ms),
            Fault::ClockOff { seconds } => self.clock_off = self.clock_off.saturating_add(*seconds),
            // The first, the third, the fifth time.
            Fault::Flap if running.happened.is_multiple_of(2) => return,
            Fault::Flap => self.flap = true,
            fault => self.last = Some(fault.clone()),
        }
        self.met.push(running.rule.fault.name());
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Plan, Rule, Rules};
    use crate::call::{Call, Endpoint};

    fn call(app: &str) -> Call {
        Call::route("POST", &format!("/v1/apps/{app}/machines"), "").expect("the path exists")
    }

    fn plans(rules: Vec<Rule>, calls: usize) -> Vec<Plan> {
        let mut running = Rules::default();
        running.add(rules).expect("the rules are fine");
        (0..calls).map(|_| running.plan(&call("a"))).collect()
    }

    #[test]
    fn a_rule_counts_waits_and_names_its_app() {
        let cut = Fault::Cut { effect: false };
        let rule = Rule::always(Endpoint::CreateMachine, cut.clone()).after(1).times(2);
        let hit: Vec<bool> = plans(vec![rule], 5).iter().map(|plan| plan.last.is_some()).collect();
        assert_eq!(hit, [false, true, true, false, false]);
        let elsewhere = plans(vec![Rule::once(Endpoint::Any, cut.clone()).in_app("b")], 2);
        assert!(elsewhere.iter().all(|plan| plan.last.is_none()));
        assert!(plans(vec![Rule::once(Endpoint::GetApp, cut)], 1)[0].last.is_none());
    }

    #[test]
    fn the_same_seed_meets_the_same_faults() {
        let storm = |seed| {
            plans(
                vec![
                    Rule::sometimes(Endpoint::Any, Fault::Delay { ms: 1 }, 0.3, seed),
                    Rule::sometimes(Endpoint::Any, Fault::Cut { effect: true }, 0.3, seed + 1),
                ],
                200,
            )
        };
        assert_eq!(storm(5), storm(5));
        assert_ne!(storm(5), storm(50));
    }

    #[test]
    fn what_combines_is_added_and_the_first_decider_wins() {
        let plan = &plans(
            vec![
                Rule::once(Endpoint::Any, Fault::Cut { effect: false }),
                Rule::once(Endpoint::Any, Fault::TruncatedJson),
                Rule::once(Endpoint::Any, Fault::Delay { ms: 2 }),
                Rule::once(Endpoint::Any, Fault::Delay { ms: 3 }),
            ],
            2,
        );
        assert_eq!((plan[0].delay_ms, &plan[0].last), (5, &Some(Fault::Cut { effect: false })));
        assert_eq!(plan[1].last, Some(Fault::TruncatedJson), "it was not used up by the call that was cut");
    }

    #[test]
    fn a_rule_reads_as_the_guide_writes_it() {
        let text = r#"{"endpoint":"create_machine","fault":{"kind":"timeout","effect":true},"count":1}"#;
        let rule: Rule = serde_json::from_str(text).expect("it is a rule");
        assert_eq!(rule, Rule::once(Endpoint::CreateMachine, Fault::timeout(true)));
        assert!(serde_json::from_str::<Rule>(r#"{"endpoint":"make_tea","fault":{"kind":"flap"}}"#).is_err());
        assert!(Rule { chance: Some(2.0), ..rule }.objection().is_some());
    }
}
