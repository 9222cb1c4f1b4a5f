//! What the database itself keeps to, whoever writes there.

use freehold_domain::records::Subscription;
use freehold_engine::ports::{Records, RecordsError};
use freehold_store::conformance::records::because;
use freehold_store::conformance::user;

use super::{Place, block_on};

/// A place with one instance that is paid for, one that is destroyed and one that was closed without a row.
fn lived_in() -> Place {
    let place = Place::new();
    block_on(async {
        let book = place.book();
        book.subscribed(&user("alice")).await;
        let (gone, _) = book.subscribed(&user("bob")).await;
        book.records.subscription_end(gone.instance, book.later(), &because()).await.expect("it ends");
        book.closed(gone.instance).await;
        book.closed(book.instance()).await;
    });
    place
}

#[test]
fn nothing_is_ever_deleted() {
    let place = lived_in();
    for table in [
        "freehold_instances",
        "freehold_subscriptions",
        "freehold_subscription_change_log",
        "freehold_tombstones",
        "freehold_instance_guards",
        "freehold_schema_migrations",
    ] {
        for statement in [format!("DELETE FROM freehold.{table}"), format!("TRUNCATE freehold.{table} CASCADE")] {
            let refused = place.sql(&statement).expect_err(&statement);
            assert!(refused.contains("keeps its rows"), "{statement}: {refused}");
        }
        let count = place.sql(&format!("SELECT count(*) FROM freehold.{table}")).expect("it answers");
        assert_ne!(count, "0", "{table}");
    }
}

#[test]
fn what_is_over_stays_over_and_the_log_is_only_added_to() {
    let place = lived_in();
    for statement in [
        "UPDATE freehold.freehold_instances SET destroyed_at = NULL WHERE destroyed_at IS NOT NULL",
        "UPDATE freehold.freehold_instances SET destroyed_at = now() WHERE destroyed_at IS NOT NULL",
        "UPDATE freehold.freehold_instances SET owner = 'user:mallory'",
        "UPDATE freehold.freehold_instances SET created_at = now()",
        "UPDATE freehold.freehold_subscriptions SET status = 'active', ended_at = NULL WHERE status = 'ended'",
        "UPDATE freehold.freehold_subscriptions SET ended_at = now() WHERE status = 'ended'",
        "UPDATE freehold.freehold_subscriptions SET plan = 'gold'",
        "UPDATE freehold.freehold_subscriptions SET reported = false",
        "UPDATE freehold.freehold_subscription_change_log SET reason = 'none'",
        "UPDATE freehold.freehold_subscription_change_log SET after = NULL",
        "UPDATE freehold.freehold_tombstones SET closed_at = now()",
        "INSERT INTO freehold.freehold_instances SELECT instance_id, 'user:late', 'late', 'p', 't', now(), NULL \
         FROM freehold.freehold_tombstones",
        "INSERT INTO freehold.freehold_tombstones SELECT instance_id, now() FROM freehold.freehold_instances",
        "BEGIN; SET LOCAL freehold.anonymizing = 'on'; \
         UPDATE freehold.freehold_instances SET owner = 'user:mallory' WHERE destroyed_at IS NULL; COMMIT",
    ] {
        let refused = place.sql(statement).expect_err(statement);
        assert!(refused.contains("freehold_") || refused.contains("ERROR"), "{statement}: {refused}");
    }
    let forgotten =
        place.sql("SELECT count(*) FROM freehold.instances_with_subscriptions WHERE owner = 'user:mallory'");
    assert_eq!(forgotten.as_deref(), Ok("0"));
}

/// Forgetting leaves nothing switched on in the session behind a pooler.
#[test]
fn forgetting_one_owner_opens_the_log_to_nobody() {
    let place = lived_in();
    let bob = "SELECT freehold.owner_anonymize('user:bob', 'user:anon', 'anon', 'operator', NULL, 'asked')";
    let both = format!("{bob}; UPDATE freehold.freehold_subscription_change_log SET after = NULL");
    place.sql(&both).expect_err("both are one transaction, and the log is closed again in it");
    assert_eq!(place.sql(bob).as_deref(), Ok("1"));
    place.sql("UPDATE freehold.freehold_subscription_change_log SET after = NULL").expect_err("closed");
}

/// What a database refuses for good is said to be, and what it may allow later is not.
#[test]
fn refusals_are_told_from_troubles() {
    let place = Place::new();
    block_on(async {
        let book = place.book();
        let (row, subscription) = book.subscribed(&user("carol")).await;
        let other = book.inserted(&user("dave")).await;
        let stolen = Subscription { instance: other.instance, ..subscription };
        let refused = book.records.subscription_put(stolen, &because()).await;
        assert!(matches!(&refused, Err(RecordsError::Refused(why)) if why.contains("23505")), "{refused:?}");
        place.sql("REVOKE ALL ON freehold.freehold_subscriptions FROM freehold").expect("revoked");
        let refused = book.records.describe(row.instance).await;
        assert!(matches!(&refused, Err(RecordsError::Refused(why)) if why.contains("42501")), "{refused:?}");
    });
}

/// A row that Freehold could not read would be in the way of every list.
#[test]
fn what_freehold_cannot_read_is_not_written() {
    let place = lived_in();
    let id = "'019b76da-a800-7000-8000-00000000ffff'";
    let row = |id: &str, owner: &str, user: &str, provider: &str| {
        place.sql(&format!(
            "INSERT INTO freehold.freehold_instances VALUES ({id}, '{owner}', '{user}', '{provider}', 't', now(), NULL)"
        ))
    };
    for (wrong, written) in [
        ("an id of version 4", row("'123e4567-e89b-42d3-a456-426614174000'", "user:eve", "eve", "p")),
        ("no kind of owner", row(id, "eve", "eve", "p")),
        ("a space", row(id, "user:e ve", "e ve", "p")),
        ("no ASCII", row(id, "user:ève", "ève", "p")),
        ("two users", row(id, "user:eve", "bob", "p")),
        ("a name that is none", row(id, "user:eve", "eve", "p/q")),
    ] {
        let refused = written.expect_err(wrong);
        assert!(refused.contains("violates check constraint"), "{wrong}: {refused}");
    }
    row(id, "user:eve", "eve", "p").expect("as Freehold would write it");
    let all = block_on(async { place.records().active_after(None, 100).await.expect("a list") });
    assert_eq!(all.len(), 2);
}

/// Every table, view and column says what it is.
#[test]
fn everything_is_commented() {
    let place = lived_in();
    let silent = place.sql(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'freehold'::regnamespace AND c.relkind IN ('r', 'v') \
         AND obj_description(c.oid) IS NULL",
    );
    assert_eq!(silent.as_deref(), Ok(""));
    let silent = place.sql(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relname IN ('freehold_instances', 'freehold_subscriptions', 'freehold_subscription_change_log', \
         'freehold_tombstones') AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL",
    );
    assert_eq!(silent.as_deref(), Ok(""));
}

/// The statements of `docs/reference/records.md`, as they stand there.
#[test]
fn the_documented_statements_do_what_they_say() {
    let place = lived_in();
    place.sql("CREATE TABLE public.users (id text PRIMARY KEY, email text)").expect("a table of the application's");
    place
        .sql("INSERT INTO public.users VALUES ('alice', 'alice@example.org'), ('eve', 'eve@example.org')")
        .expect("users");
    let page = include_str!("../../../../docs/reference/records.md");
    let blocks: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [grant, join, missing, bill] = blocks[..] else { panic!("{} blocks", blocks.len()) };
    place.sql(&grant.replace("shop", "db0")).expect("a role that reads");
    place.sql("GRANT SELECT ON public.users TO reporting").expect("its own tables");
    let as_reader = |statement: &str| place.lab.sql_as("reporting", "db0", statement);
    let said = as_reader(join).expect("the join");
    assert!(said.starts_with("alice@example.org|") && said.lines().count() == 1, "{said}");
    assert_eq!(as_reader(missing).expect("who has none"), "eve@example.org");
    assert_eq!(as_reader(bill).expect("the bill").lines().count(), 2);
    as_reader("SELECT * FROM freehold.freehold_subscription_change_log").expect_err("only the views were granted");
    as_reader("SELECT freehold.owner_anonymize('user:bob', 'user:x', 'x', 'system', NULL, '')").expect_err("no writes");
}
