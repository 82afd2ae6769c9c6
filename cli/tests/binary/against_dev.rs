//! Commands against a running process, in the order in which somebody might try them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::dev::{Dev, tessera};

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_tenants_life_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(folder.path());
    let status = |dev: &Dev| dev.json(&["tenant", "show", "t"])["tenant"]["status"].clone();

    let created = dev.json(&["tenant", "create", "t", "--plan", "gold@1", "--trial=10d", "--label", "a=b", "--yes"]);
    assert_eq!(created["tenant"]["subscription"]["pinnedVersion"], 1);
    assert_eq!(created["tenant"]["trialsUsed"], serde_json::json!(["gold"]));
    let revision = created["revision"].as_str().unwrap();
    let checked = dev.json(&["check", "t", "reporting", "exports", "--at-least", revision]);
    assert_eq!((&checked["entitled"], &checked["planVersion"]), (&true.into(), &1.into()));

    dev.good(&["tenant", "trial", "end", "t", "--convert", "--yes"]);
    dev.good(&["tenant", "suspend", "t", "--reason", "fraud", "--yes"]);
    assert_eq!(status(&dev), "TENANT_STATUS_SUSPENDED");
    let denied = dev.run(&["check", "t", "reporting", "exports", "--fully-consistent"]);
    assert_eq!(denied.code, Some(3), "{denied:?}");
    assert!(denied.out.starts_with("denied  TENANT_SUSPENDED\n") && denied.out.contains("fraud"), "{denied:?}");
    dev.good(&["tenant", "resume", "t", "--reason", "fraud", "--yes"]);

    let scheduled = dev.json(&["tenant", "change-plan", "t", "silver", "--at", "2099-01-01T00:00:00Z", "--yes"]);
    let number = scheduled["tenant"]["subscription"]["scheduled"][0]["id"].to_string();
    let undone = dev.json(&["tenant", "change-plan", "t", "--undo", &number, "--yes"]);
    assert_eq!(undone["tenant"]["subscription"]["scheduled"], serde_json::json!([]));
    dev.good(&["tenant", "cancel", "t", "--at", "2099-01-01T00:00:00Z", "--yes"]);
    dev.good(&["tenant", "cancel", "t", "--undo", "--yes"]);

    dev.good(&["tenant", "add-on", "attach", "t", "extra-seats", "--quantity", "3", "--yes"]);
    let limited = dev.json(&["check", "t", "reporting", "--limit", "max_users=1,used=1299", "--fully-consistent"]);
    assert_eq!((&limited["entitled"], &limited["limit"]["remaining"]), (&true.into(), &"1".into()));
    // What is not said stays as it is, and doing it again under one id does it once.
    let attach = |more: &[&str]| {
        let all = [&["tenant", "add-on", "attach", "t", "--yes"], more].concat();
        let answer = dev.json(&all);
        let attached = answer["tenant"]["addOns"][0].clone();
        (attached["quantity"].clone(), attached["pinnedVersion"].clone(), answer["idempotentReplay"] == true)
    };
    assert_eq!(attach(&["extra-seats@1"]), ("3".into(), 1.into(), false));
    assert_eq!(attach(&["extra-seats", "--quantity", "4"]), ("4".into(), 1.into(), false));
    let named = ["extra-seats@1", "--quantity", "5", "--request-id", "r-5"];
    assert_eq!(attach(&named), ("5".into(), 1.into(), false));
    assert_eq!(attach(&named), ("5".into(), 1.into(), true));
    assert_eq!(attach(&["extra-seats@latest"]), ("5".into(), 0.into(), false));
    dev.good(&["tenant", "add-on", "detach", "t", "extra-seats", "--yes"]);
    assert_eq!(attach(&["extra-seats"]), ("1".into(), 0.into(), false));
    dev.good(&["tenant", "add-on", "detach", "t", "extra-seats", "--yes"]);

    let set = ["tenant", "override", "set", "t", "--reason", "test", "--yes"];
    let feature = ["--service", "reporting", "--feature", "custom-reports"];
    dev.good(&[&set[..], &feature, &["--grant"]].concat());
    dev.good(&[&set[..], &["--limit", "max_users", "--maximum", "unlimited"]].concat());
    let explained = dev.good(&["explain", "t", "reporting", "custom-reports", "--fully-consistent"]);
    assert!(explained.contains("GRANTED_BY_OVERRIDE") && explained.contains("grant override  matched"), "{explained}");
    dev.good(&[&["tenant", "override", "remove", "t", "--yes"][..], &feature].concat());

    dev.good(&["tenant", "create", "later", "--plan", "gold", "--pending", "--yes"]);
    let activated = dev.json(&["tenant", "activate", "later", "--yes"]);
    assert_eq!(activated["tenant"]["status"], "TENANT_STATUS_ACTIVE");

    let events = dev.json(&["audit", "list", "--tenant", "t"]);
    assert!(events["events"].as_array().is_some_and(|events| events.len() >= 10), "{events}");
    let table = dev.good(&["audit", "list", "--tenant", "t"]);
    assert!(
        table.contains("  PlanChangeScheduled  ") && table.contains("  at=2099-01-01T00:00:00Z plan=silver id=1  "),
        "{table}"
    );
    assert_eq!(dev.json(&["audit", "verify"])["problems"], serde_json::json!([]));
    assert!(dev.good(&["tenant", "at", "t", "2098-01-01T00:00:00Z"]).contains("max_users"));
    assert!(dev.bad(&["tenant", "at", "t", "2001-01-01T00:00:00Z"]).contains("TENANT_NOT_FOUND"));

    dev.good(&["tenant", "delete", "t", "--yes"]);
    assert!(dev.bad(&["tenant", "show", "t"]).contains("TENANT_NOT_FOUND"));
    assert_eq!(dev.json(&["tenant", "show", "t", "--deleted"])["tenant"]["status"], "TENANT_STATUS_DELETED");
    let listed = dev.good(&["tenant", "list", "--label", "region=us", "--plan", "gold"]);
    assert!(listed.contains("initech") && !listed.contains("acme"), "{listed}");
    dev.stop();
}

#[test]
fn a_request_id_makes_a_change_happen_once() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(folder.path());
    let create = ["tenant", "create", "--plan", "gold", "--title", "A", "--request-id", "r-1", "--yes"];
    let first = dev.json(&create);
    let again = dev.json(&create);
    assert_eq!(first["tenant"]["tenantId"], again["tenant"]["tenantId"]);
    assert_eq!((&first["idempotentReplay"], &again["idempotentReplay"]), (&false.into(), &true.into()));
    let other = ["tenant", "create", "--plan", "silver", "--request-id", "r-1", "--yes"];
    assert!(dev.bad(&other).contains("REQUEST_ID_REUSED"));
    dev.stop();
}

#[test]
fn apply_shows_what_differs_and_does_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    assert_eq!(dev.good(&["apply", "-f", "examples/quickstart"]), "0 to create, 0 to change, 36 unchanged\n");

    let file = write(
        folder.path(),
        "a.yaml",
        "plan: small\nservices: {reporting: {features: [exports]}}\n---\ntenant: t\nplan: small\n",
    );
    let shown = dev.good(&["apply", "-f", &file, "--dry-run"]);
    assert!(shown.contains("plan `small`: create") && shown.contains("+ tenant: t"), "{shown}");
    assert!(dev.bad(&["plan", "show", "small"]).contains("there is no plan `small`"), "a dry run does nothing");
    assert!(dev.bad(&["apply", "-f", &file]).contains("--yes"), "nobody is there to ask");
    dev.good(&["apply", "-f", &file, "--yes"]);
    assert_eq!(dev.good(&["apply", "-f", &file, "--yes"]), "0 to create, 0 to change, 2 unchanged\n");

    let file = write(folder.path(), "b.yaml", "plan: small\nservices: {reporting: {features: [dashboards]}}\n");
    let shown = dev.good(&["apply", "-f", &file, "--yes"]);
    assert!(shown.contains("plan `small`: publish version 2"), "{shown}");
    assert!(shown.contains("-     - exports") && shown.contains("+     - dashboards"), "{shown}");
    let difference = dev.good(&["plan", "diff", "small", "--from", "1", "--to", "2"]);
    assert!(difference.contains("+     - dashboards"), "{difference}");

    // An archived plan stays as it is, and an equal document is no reason to complain.
    dev.good(&["plan", "archive", "small", "--yes"]);
    dev.good(&["apply", "-f", &file, "--yes"]);
    let file = write(folder.path(), "c.yaml", "plan: small\n");
    let refused = dev.bad(&["apply", "-f", &file, "--yes"]);
    assert!(refused.contains("c.yaml:1: plan `small`: it is archived"), "{refused}");

    // Kill switches are no part of documents.
    dev.good(&["catalog", "disable", "reporting", "exports", "--reason", "broken", "--yes"]);
    dev.good(&["apply", "-f", "examples/quickstart", "--yes"]);
    assert!(dev.good(&["catalog", "show", "reporting"]).contains("disabled: broken"));
    dev.good(&["catalog", "enable", "reporting", "exports", "--yes"]);

    // What is not registered is refused by field, and what came before it stays.
    let file = write(folder.path(), "d.yaml", "plan: other\nlimits: {max_cats: 1}\n");
    let refused = dev.bad(&["apply", "-f", &file, "--yes"]);
    assert!(refused.contains("d.yaml:1: plan `other`") && refused.contains("max_cats"), "{refused}");
    dev.stop();
}

#[test]
fn a_document_that_states_what_has_gone_by_or_the_last_first_is_compared_as_what_it_means() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let documents = |title: &str| {
        format!(
            "tenant: moved\ntitle: {title}\nplan: gold\nscheduled: [{{at: 2021-01-01T00:00:00Z, plan: silver}}]\n\
             ---\ntenant: over\nplan: gold\noverrides:\n- {{limit: max_users, maximum: 5, until: 2021-01-01T00:00:00Z, reason: r}}\n\
             ---\ntenant: unsorted\nplan: gold\nscheduled:\n- {{at: 2099-01-01T00:00:00Z, plan: silver}}\n\
             - {{at: 2098-01-01T00:00:00Z, plan: bronze}}\n"
        )
    };
    let file = write(folder.path(), "a.yaml", &documents("A"));
    dev.good(&["apply", "-f", &file, "--yes"]);
    assert_eq!(dev.good(&["apply", "-f", &file, "--dry-run"]), "0 to create, 0 to change, 3 unchanged\n");
    // Only what changes is shown to change.
    let shown = dev.good(&["apply", "-f", &write(folder.path(), "b.yaml", &documents("B")), "--dry-run"]);
    assert!(shown.contains("- title: A") && shown.contains("+ title: B"), "{shown}");
    assert!(!shown.contains("gold") && !shown.contains("- plan"), "{shown}");

    // A trial that was had is something to state, once, even if it has left nothing else behind.
    let trial = "tenant: moved\ntitle: A\nplan: gold\ntrial_until: 2021-01-15T00:00:00Z\n\
                 scheduled: [{at: 2021-01-01T00:00:00Z, plan: silver}]\n";
    let file = write(folder.path(), "c.yaml", trial);
    let shown = dev.good(&["apply", "-f", &file, "--yes"]);
    assert!(shown.contains("tenant `moved`: change") && shown.contains("- # no trial of gold yet"), "{shown}");
    assert_eq!(dev.good(&["apply", "-f", &file, "--dry-run"]), "0 to create, 0 to change, 1 unchanged\n");
    dev.stop();
}

#[test]
fn a_deleted_tenant_is_refused_by_an_apply_and_left_out_of_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let dev = Dev::ready(&data);
    dev.good(&["tenant", "delete", "acme", "--yes"]);
    for more in ["--yes", "--dry-run"] {
        let refused = dev.bad(&["apply", "-f", "examples/quickstart", more]);
        assert!(refused.contains("40-tenants.yaml:") && refused.contains("tenant `acme`: it was deleted, for ever"), "{refused}");
    }
    dev.stop();
    let dev = Dev::ready(&data);
    assert!(dev.bad(&["tenant", "show", "acme"]).contains("TENANT_NOT_FOUND"));
    let said = dev.stop();
    assert!(said.contains("WARN") && said.contains("tenant `acme`") && said.contains("left out"), "{said}");
    assert!(!said.contains("check acme"), "nobody is told to try what is not there: {said}");
}

#[test]
fn commands_that_open_the_store_take_it_from_the_settings_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, other, backup) = (place("data"), place("other"), place("backup.jsonl"));
    Dev::ready(data.as_ref()).stop();
    let settings = write(folder.path(), "dev.toml", &format!("[server]\n[backends]\ndata_dir = \"{data}\"\n"));
    let good = |arguments: &[&str], environment: &[(&str, &str)]| {
        let said = tessera(arguments, environment);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.out + &said.err
    };
    let by_file = [("TESSERA_SETTINGS", settings.as_str())];
    let by_variable = [("TESSERA_SETTINGS", settings.as_str()), ("TESSERA_BACKENDS__DATA_DIR", other.as_str())];
    assert!(good(&["migrate"], &by_file).contains(&data));
    let said = good(&["export", "--history", "--out", &backup], &by_file);
    assert!(said.starts_with(&format!("the database in `{data}`: ")), "{said}");
    let said = good(&["import", "--history", &backup, "--yes"], &by_variable);
    assert!(said.contains(&format!("the database in `{other}`")), "{said}");
    let digest = |data: &str| good(&["digest", "--data", data], &[]);
    assert_eq!(digest(&other), digest(&data));
    // A copy to restore from, and what is said goes before what the environment says.
    let copy = folder.path().join("copy.db");
    std::fs::copy(folder.path().join("data/tessera.db"), &copy).unwrap();
    let restore = ["restore", "--from", copy.to_str().unwrap(), "--yes"];
    assert!(good(&restore, &by_variable).contains(&other));
    let third = place("third");
    assert!(good(&[&restore[..], &["--data", &third]].concat(), &by_variable).contains(&third));

    let cluster = "[backends]\nkind = \"cluster\"\nscylla = { contact_points = [\"a:1\"] }\nkafka = { brokers = [\"b:2\"] }\n";
    let cluster = write(folder.path(), "cluster.toml", cluster);
    let said = tessera(&restore, &[("TESSERA_SETTINGS", &cluster)]);
    assert!(said.code == Some(1) && said.err.contains("the settings name keyspace `tessera` at `a:1`"), "{said:?}");
}

#[test]
fn bad_ids_are_refused_by_field_value_and_grammar_whichever_plane_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let names = "1 to 63 bytes of a-z 0-9 . _ -";
    let tenants = "1 to 128 bytes of ASCII letters";
    let long = "x".repeat(129);
    for (arguments, words) in [
        (&["check", "\u{430}cme", "reporting"][..], &["tenant_id", "`\\u{430}cme`", tenants][..]),
        (&["check", "acme", "Reporting"], &["service", "`Reporting`", names]),
        (&["check", "acme", "reporting", "ex ports"], &["feature", "`ex ports`", names]),
        (&["check", "acme", "reporting", "--limit", "Max=1"], &["limit_check.name", "`Max`", names]),
        (&["check", "", "reporting"], &["tenant_id", "``", "it is empty", tenants]),
        (&["list", "a\u{202e}b"], &["tenant_id", "`a\\u{202e}b`", tenants]),
        (&["tenant", "show", &long], &["tenant_id", "it has 129 bytes", tenants]),
        (&["tenant", "at", "a/b", "2026-01-01T00:00:00Z"], &["tenant_id", "`a/b`", tenants]),
        (&["tenant", "create", "acme2", "--plan", "Gold", "--yes"], &["plan_id", "`Gold`", names]),
        (&["tenant", "delete", "a\u{200b}b", "--yes"], &["tenant_id", "`a\\u{200b}b`", tenants]),
        (&["plan", "show", "g\u{43e}ld"], &["plan_id", "`g\\u{43e}ld`", names]),
        (&["plan", "archive", "gold-", "--yes"], &["plan_id", "`gold-`", names]),
        (
            &["catalog", "disable", "reporting", "\u{ff45}xports", "--reason", "r", "--yes"],
            &["feature_id", "`\\u{ff45}xports`", names],
        ),
        (&["tenant", "show", "nobody"], &["tenant `nobody` does not exist", "TENANT_NOT_FOUND"]),
        (&["plan", "show", "nothing"], &["there is no plan `nothing`"]),
        (&["tenant", "create", "acme3", "--plan", "nothing", "--yes"], &["plan `nothing` does not exist", "PLAN_NOT_FOUND"]),
    ] {
        let refused = dev.bad(arguments);
        for word in words {
            assert!(refused.contains(word), "{arguments:?}: `{word}` is not in {refused}");
        }
        assert!(refused.lines().count() == 1 && !refused.trim_end().chars().any(char::is_control), "{refused:?}");
    }
    dev.stop();
}

#[test]
fn many_tenants_are_imported_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let many: Vec<String> = (0..3_000).map(|n| format!("---\ntenant: many-{n}\nplan: bronze\n")).collect();
    let file = write(folder.path(), "many.yaml", &many.concat());
    let first = dev.good(&["tenant", "import", &file, "--import-id", "i-1", "--yes"]);
    assert_eq!(first, "3000 created or changed, 0 unchanged, 0 refused\n");
    let again = dev.json(&["tenant", "import", &file, "--yes"]);
    assert_eq!((&again["appliedThroughRow"], &again["unchanged"]), (&"3000".into(), &"3000".into()));
    let refused = dev.run(&["tenant", "import", "examples/quickstart/40-tenants.yaml", "--mode", "create-only", "--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("tenant 1 `acme`") && refused.err.contains("13 tenants were refused"), "{refused:?}");
    assert!(dev.bad(&["tenant", "import", "examples/quickstart", "--yes"]).contains("only tenants are imported"));

    let export = folder.path().join("export.yaml");
    std::fs::write(&export, "the one before").unwrap();
    dev.good(&["export", "--out", export.to_str().unwrap()]);
    let digest = dev.good(&["digest"]);
    assert!(digest.contains("3013"), "{digest}");
    dev.stop();

    // The export makes an empty store say the same.
    let dev = Dev::ready(&folder.path().join("other"));
    dev.good(&["import", export.to_str().unwrap(), "--yes"]);
    let exported = std::fs::read_to_string(&export).unwrap();
    assert!(dev.good(&["export"]) == exported, "the exports differ");
    dev.stop();

    // So it does when it can be read only once, though the import reads it twice.
    for (place, standard_input) in [("piped", "-"), ("named", "/dev/stdin")] {
        let dev = Dev::ready(&folder.path().join(place));
        dev.good_with(&exported, &["import", standard_input, "--yes"]);
        assert!(dev.good(&["export"]) == exported, "the exports differ: {standard_input}");
        dev.stop();
    }
}

#[test]
fn the_store_can_be_looked_at_when_nobody_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let dev = Dev::ready(folder.path());
    let running = dev.json(&["digest"]);
    let refused = dev.bad(&["digest", "--data", data]);
    assert!(refused.contains("in use by another process") && refused.contains(data), "{refused}");
    dev.stop();
    let said = tessera(&["digest", "--data", data, "-o", "json"], &[]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said.out).unwrap(), running, "{said:?}");
    let said = tessera(&["migrate", "--data", data], &[]);
    assert!(said.code == Some(0) && said.out.contains("version 1, was up to date"), "{said:?}");
    // A directory that was mistyped is not made.
    let nowhere = folder.path().join("nowhere");
    for command in ["migrate", "digest"] {
        let said = tessera(&[command, "--data", nowhere.to_str().unwrap()], &[]);
        assert!(said.code == Some(1) && said.err.contains("there is no database in data_dir"), "{said:?}");
        assert!(!nowhere.exists(), "{command}");
    }
}

#[test]
fn a_watch_prints_documents() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(folder.path());
    let watched = dev.good(&["watch", "acme", "hooli", "--count", "2", "-o", "json"]);
    let tenants: Vec<serde_json::Value> = watched.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(tenants.len(), 2, "{watched}");
    assert!(tenants.iter().any(|line| line["document"]["tenantId"] == "acme"), "{watched}");
    let refused = dev.bad(&["watch", "typo", "--count", "1"]);
    assert!(refused.contains("typo") && refused.contains("there is no tenant left to watch"), "{refused}");
    dev.stop();
}

#[test]
fn a_watch_that_nobody_reads_ends_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(folder.path());
    let mut watch = dev.start(&["watch", "acme", "-o", "json"], Stdio::null());
    let mut out = BufReader::new(watch.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let id = watch.id().to_string();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(watch.wait_with_output().unwrap()));
    let ended = ended.recv_timeout(PATIENCE).inspect_err(|_| drop(Command::new("kill").arg(&id).status()));
    let ended = ended.expect("it goes on though nobody reads");
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    dev.stop();
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_list_that_was_cut_off_says_so_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    // Many enough for several ranges of the store.
    let many: Vec<String> = (0..9_000).map(|n| format!("---\ntenant: many-{n}\nplan: bronze\n")).collect();
    dev.good(&["tenant", "import", &write(folder.path(), "many.yaml", &many.concat()), "--yes"]);
    let ids = |page: &serde_json::Value, items: &str, id: &str| -> Vec<String> {
        page[items].as_array().unwrap().iter().map(|item| format!("{}{}", item[id], item["seq"])).collect()
    };
    // More than a page of the control plane, and less.
    for (list, items, id, limit) in [
        (&["tenant", "list"][..], "tenants", "tenantId", "3500"),
        (&["tenant", "list", "--plan", "gold"], "tenants", "tenantId", "2"),
        (&["audit", "list"], "events", "stream", "3500"),
        (&["audit", "list", "--tenant", "acme"], "events", "stream", "1"),
    ] {
        let whole = ids(&dev.json(&[list, &["--limit", "100000"]].concat()), items, id);
        let (mut parts, mut token) = (Vec::new(), String::new());
        loop {
            let page = dev.json(&[list, &["--limit", limit, "--page-token", &token]].concat());
            let part = ids(&page, items, id);
            assert!(part.len() <= limit.parse().unwrap(), "{list:?}");
            parts.extend(part);
            page["nextPageToken"].as_str().unwrap().clone_into(&mut token);
            if token.is_empty() {
                break;
            }
        }
        parts.sort();
        let mut sorted = whole.clone();
        sorted.sort();
        assert!(parts == sorted, "{list:?}: {} of {}", parts.len(), whole.len());
    }
    let said = dev.run(&["tenant", "list", "--limit", "5"]);
    assert!(
        said.out.lines().count() == 6 && said.err.contains("more than these 5") && said.err.contains("--page-token"),
        "{said:?}"
    );
    let refused = dev.bad(&["tenant", "list", "--page-token", "x"]);
    assert!(refused.contains("`x` is not a page token"), "{refused}");
    dev.stop();
}

#[test]
fn an_export_names_what_it_does_not_say() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let nothing = dev.run(&["export"]);
    assert_eq!((nothing.code, nothing.err.as_str()), (Some(0), ""));

    // The only version is the first of any store.
    dev.good(&["tenant", "create", "pinned-to-the-only", "--plan", "bronze@1", "--yes"]);
    assert_eq!(dev.run(&["export"]).err, "");
    for n in 0..7 {
        dev.good(&["tenant", "create", &format!("pinned-{n}"), "--plan", "silver@1", "--yes"]);
    }
    dev.good(&["tenant", "change-plan", "pinned-to-the-only", "silver@1", "--at", "2099-01-01T00:00:00Z", "--yes"]);
    let file = write(folder.path(), "silver.yaml", "plan: silver\nservices: {reporting: {features: [exports]}}\n");
    dev.good(&["apply", "-f", &file, "--yes"]);
    dev.good(&["plan", "archive", "gold", "--yes"]);
    dev.good(&["catalog", "disable", "reporting", "exports", "--reason", "broken", "--yes"]);
    dev.good(&["catalog", "disable", "entity-management", "--reason", "broken", "--yes"]);
    let said = dev.run(&["export"]);
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines.len(), 3, "{}", said.err);
    assert!(lines[0].starts_with("archived") && lines[0].ends_with("(--history keeps it): 1: plan `gold`"), "{}", said.err);
    assert!(lines[1].ends_with("2: feature `reporting/exports`, service `entity-management`"), "{}", said.err);
    assert!(lines[2].ends_with("9: `globex`, `pinned-0`, `pinned-1`, `pinned-2`, `pinned-3`, …"), "{}", said.err);
    assert!(said.out.contains("# disabled\nservice: entity-management") && said.out.contains("# disabled: exports\n"));
    assert_eq!(dev.run(&["export", "--no-tenants"]).err.lines().count(), 2);
    dev.stop();
}

#[test]
fn a_plane_that_is_taken_for_the_other_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(folder.path());
    let [(_, data), (_, control), _] = dev.environment();
    for arguments in [&["check", "acme", "reporting"][..], &["list", "acme"], &["watch", "acme"]] {
        let refused = dev.bad(&[arguments, &["--data-addr", control]].concat());
        let expected = format!("`{control}` was asked as the data plane");
        assert!(refused.contains(&expected) && refused.contains("control plane") && refused.contains("--data-addr"), "{refused}");
    }
    for arguments in [&["tenant", "list"][..], &["plan", "show", "gold"], &["tenant", "delete", "acme", "--yes"]] {
        let refused = dev.bad(&[arguments, &["--control-addr", data]].concat());
        let expected = format!("`{data}` was asked as the control plane");
        assert!(
            refused.contains(&expected) && refused.contains("is it the data plane") && refused.contains("--control-addr"),
            "{refused}"
        );
    }
    dev.stop();
}
