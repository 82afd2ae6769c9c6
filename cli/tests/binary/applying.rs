//! `tessera apply` and what stands in its way: names that are not there, refusals half-way, and what documents leave out.

use std::fmt::Write as _;
use std::path::Path;

use super::dev::Dev;

fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("documents.yaml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_names_something_that_is_nowhere_is_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let file = write(
        folder.path(),
        "service: newsvc\nfeatures: {a: {title: A}}\n---\nplan: good\nservices: {newsvc: {features: [a]}}\n---\n\
         plan: bad\nservices: {newsvc: {features: [b]}, nosvc: {}}\nlimits: {max_cats: 1}\n---\n\
         tenant: t\nplan: nothing\nadd_ons: {extra-seats: {version: 7}}\noverrides: [{service: newsvc, feature: c, effect: grant, reason: r}]\n\
         ---\ntenant: u\nplan: gold@2\n",
    );
    for more in ["--dry-run", "--yes"] {
        let refused = dev.bad(&["apply", "-f", &file, more]);
        for expected in [
            "nothing is applied, since 3 of the documents would be refused",
            "documents.yaml:7: plan `bad`: ",
            "document.services[\"newsvc\"].features[\"b\"]: feature `b` is not registered for service `newsvc`",
            "document.services[\"nosvc\"]: service `nosvc` is not registered",
            "document.limits[\"max_cats\"]: limit `max_cats` is not registered",
            "tenant `t`: document.overrides[\"newsvc/c\"].target.feature: feature `c` is not registered",
            "tenant `u`: plan `gold` has no version `2`; published are 1 to 1 (PLAN_VERSION_NOT_FOUND)",
        ] {
            assert!(refused.contains(expected), "{more}: {expected}\n{refused}");
        }
        assert!(!refused.contains("`good`"), "{refused}");
        assert!(dev.bad(&["catalog", "show", "newsvc"]).contains("SERVICE_NOT_FOUND"), "{more}: something was done");
    }
    // What documents make may be named, a version that comes with them, too.
    let file = write(
        folder.path(),
        "service: newsvc\nfeatures: {a: {title: A}}\n---\nplan: gold\nservices: {newsvc: {features: [a]}}\n---\n\
         plan: good\nservices: {newsvc: {features: [a]}}\n---\ntenant: t\nplan: gold@2\nscheduled: [{at: 2099-01-01T00:00:00Z, plan: good}]\n",
    );
    dev.good(&["apply", "-f", &file, "--yes"]);
    dev.stop();
}

#[test]
fn an_apply_that_stops_half_way_says_how_much_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    // Whether this may be named is known to the loader alone.
    dev.good(&["catalog", "archive", "--limit", "max_teams", "--yes"]);
    let mut documents = "plan: p1\n---\nplan: p2\n---\nplan: p3\nlimits: {max_teams: 1}\n---\nplan: p4\n".to_owned();
    for (tenants, left) in [(2, 3), (1_001, 1_002)] {
        for number in 0..tenants {
            write!(documents, "---\ntenant: t{tenants}-{number}\nplan: p1\n").unwrap();
        }
        let before = if tenants == 2 { 2 } else { 0 };
        let refused = dev.bad(&["apply", "-f", &write(folder.path(), &documents), "--yes"]);
        let expected = format!("{before} of the documents are applied, {left} after this one are not");
        assert!(refused.contains(&expected) && refused.contains("plan `p3`: document.limits"), "{refused}");
        documents = documents.split_inclusive("plan: p4\n").next().unwrap().to_owned();
    }
    // Whoever imports hears it, too.
    let refused = dev.bad(&["import", &write(folder.path(), &documents), "--yes"]);
    assert!(refused.contains("no tenant is imported: 0 of the documents are applied, 1 after this one are not"), "{refused}");
    assert!(dev.bad(&["tenant", "show", "t2-0"]).contains("TENANT_NOT_FOUND"));
    dev.stop();
}

#[test]
fn what_a_document_leaves_out_stays_until_it_is_archived_and_apply_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let file = write(folder.path(), "service: newsvc\nfeatures: {a: {title: A}, b: {title: B}}\n");
    dev.good(&["apply", "-f", &file, "--yes"]);
    let file = write(folder.path(), "service: newsvc\nfeatures: {a: {title: A}}\n");
    let stays = "feature `b` of `newsvc` is registered and not in the document: it stays; `tessera catalog archive newsvc b`";
    let said = dev.run(&["apply", "-f", &file, "--yes"]);
    assert!(said.code == Some(0) && said.err.contains(stays) && said.out.contains("1 unchanged"), "{said:?}");

    let refused = dev.bad(&["catalog", "archive", "newsvc", "b"]);
    assert!(refused.contains("archive feature `b` of service `newsvc`?") && refused.contains("--yes"), "{refused}");
    let archived = dev.json(&["catalog", "archive", "newsvc", "b", "--yes"]);
    assert_eq!(archived["service"]["features"][1]["archived"], true, "{archived}");
    let said = dev.run(&["apply", "-f", &file, "--yes"]);
    assert!(said.code == Some(0) && !said.err.contains("it stays"), "{said:?}");

    let again = ["catalog", "archive", "newsvc", "--request-id", "r-1", "--yes"];
    assert_eq!(dev.json(&again)["service"]["archived"], true);
    assert_eq!(dev.json(&again)["idempotentReplay"], true);
    assert_eq!(dev.json(&["catalog", "archive", "--limit", "max_teams", "--yes"])["limit"]["archived"], true);
    // A document brings it back.
    assert!(dev.good(&["apply", "-f", &file, "--yes"]).contains("- # archived"));
    dev.stop();
}
