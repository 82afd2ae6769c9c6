//! Every metric is named alike and stands in docs/METRICS.md.

use std::collections::BTreeSet;

use tessera_loader::metric_definitions::ALL;

#[test]
fn metrics_are_named_alike_and_documented() {
    let page = include_str!("../../../docs/METRICS.md");
    for name in ALL {
        assert!(name.starts_with("tessera_"), "{name}");
        assert!(page.contains(&format!("`{name}`")), "docs/METRICS.md does not list `{name}`");
    }
    assert_eq!(ALL.iter().collect::<BTreeSet<_>>().len(), ALL.len());
}
