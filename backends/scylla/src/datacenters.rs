//! Which datacenter of the database is ours, and that a keyspace stays with it.
//!
//! With `datacenters = "one"` conditions are decided among the copies of one datacenter. Of two appends to the same head that are
//! decided in two, both are applied, and what one of them wrote is lost. So one datacenter is always meant, only its nodes are
//! asked, and it is written down in the keyspace.

use std::collections::BTreeSet;

use scylla::client::session::Session;

use crate::config::{Config, Datacenters};
use crate::error::OpenError;
use crate::session::unreachable;

/// Those of all nodes that the driver knows, whether they can be reached or not.
pub(crate) fn found(session: &Session) -> BTreeSet<String> {
    let state = session.get_cluster_state();
    state.get_nodes_info().iter().filter_map(|node| node.datacenter.clone()).collect()
}

/// The one whose nodes are asked; `None`: they are asked wherever they are.
pub(crate) fn local(config: &Config, found: &BTreeSet<String>) -> Result<Option<String>, OpenError> {
    let named = config.local_datacenter.as_ref();
    if named.is_none() && config.datacenters == Datacenters::Many {
        return Ok(None);
    }
    // The driver could connect, and has not been told of the nodes yet.
    let Some(first) = found.first() else {
        return Err(unreachable(config, "no node says in which datacenter it is".to_owned()));
    };
    match named {
        Some(name) if found.contains(name) => Ok(Some(name.clone())),
        Some(name) => Err(OpenError::NoSuchDatacenter { configured: name.clone(), found: listed(found) }),
        None if found.len() == 1 => Ok(Some(first.clone())),
        None => Err(OpenError::SeveralDatacenters { found: listed(found) }),
    }
}

/// As the keyspace says it: `many`, or `one` and its name.
pub(crate) fn written(config: &Config) -> String {
    match (config.datacenters, &config.local_datacenter) {
        (Datacenters::One, Some(name)) => format!("{} {name}", Datacenters::One.name()),
        (datacenters, _) => datacenters.name().to_owned(),
    }
}

/// Refuses a keyspace whose conditions are decided otherwise, or elsewhere. `config` names the datacenter that [`local`] found.
pub(crate) fn check(keyspace: &str, stored: Option<&str>, config: &Config, found: &BTreeSet<String>) -> Result<(), OpenError> {
    let configured = written(config);
    let stored = stored.unwrap_or("nothing");
    if stored == configured {
        return Ok(());
    }
    let keyspace = keyspace.to_owned();
    // Made before it was written down which: all loaders have used the same only if there is no other.
    if stored == Datacenters::One.name() && config.datacenters == Datacenters::One {
        return if found.len() > 1 { Err(OpenError::UnnamedDatacenter { keyspace, found: listed(found) }) } else { Ok(()) };
    }
    let same_kind = kind(stored) == kind(&configured);
    let shown = |text: &str| if same_kind { text.to_owned() } else { kind(text).to_owned() };
    Err(OpenError::Datacenters { keyspace, stored: shown(stored), configured: shown(&configured) })
}

/// `one` or `many`, without a name.
fn kind(written: &str) -> &str {
    written.split_once(' ').map_or(written, |(kind, _)| kind)
}

fn listed(found: &BTreeSet<String>) -> String {
    let names: Vec<String> = found.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(datacenters: Datacenters, local: Option<&str>) -> Config {
        let local_datacenter = local.map(str::to_owned);
        Config { datacenters, local_datacenter, ..Config::new(vec!["127.0.0.1:9042".to_owned()]) }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_datacenter_is_always_meant() {
        let one = |named, found: &[&str]| local(&config(Datacenters::One, named), &names(found));
        assert_eq!(one(None, &["dc1"]), Ok(Some("dc1".to_owned())));
        assert_eq!(one(Some("dc2"), &["dc1", "dc2"]), Ok(Some("dc2".to_owned())));
        let error = one(None, &["dc2", "dc1"]).unwrap_err();
        assert!(!error.may_pass());
        assert_eq!(
            error.to_string(),
            "the store has the datacenters `dc1`, `dc2`, and local_datacenter is not set; with datacenters `one` set it to \
             the one that all loaders and servers use"
        );
        assert!(one(None, &[]).unwrap_err().may_pass(), "the nodes are not known yet");
    }

    #[test]
    fn a_datacenter_that_is_not_there_is_refused() {
        for datacenters in [Datacenters::One, Datacenters::Many] {
            let error = local(&config(datacenters, Some("dc3")), &names(&["dc1", "dc2"])).unwrap_err();
            assert!(!error.may_pass());
            assert_eq!(error.to_string(), "local_datacenter is `dc3`; allowed are the datacenters of the store: `dc1`, `dc2`");
            assert!(local(&config(datacenters, Some("dc3")), &names(&[])).unwrap_err().may_pass());
        }
    }

    #[test]
    fn several_datacenters_need_no_name() {
        let many = |named, found: &[&str]| local(&config(Datacenters::Many, named), &names(found));
        assert_eq!(many(None, &["dc1", "dc2"]), Ok(None));
        assert_eq!(many(None, &[]), Ok(None));
        assert_eq!(many(Some("dc1"), &["dc1", "dc2"]), Ok(Some("dc1".to_owned())));
    }

    #[test]
    fn a_keyspace_stays_with_its_datacenter() {
        let one = config(Datacenters::One, Some("dc1"));
        let many = config(Datacenters::Many, Some("dc1"));
        let (single, both) = (names(&["dc1"]), names(&["dc1", "dc2"]));
        assert_eq!((written(&one), written(&many)), ("one dc1".to_owned(), "many".to_owned()));
        let said = |stored, config: &Config, found| check("ks", Some(stored), config, found).map_err(|error| error.to_string());
        let refused = |stored: &str, configured: &str| -> Result<(), String> {
            Err(format!(
                "keyspace `ks` was made with datacenters `{stored}`, the settings say `{configured}`; they must be the same, and \
                 never change in a keyspace"
            ))
        };
        for found in [&single, &both] {
            assert_eq!(said("one dc1", &one, found), Ok(()));
            assert_eq!(said("many", &many, found), Ok(()));
            assert_eq!(said("one dc2", &one, found), refused("one dc2", "one dc1"));
            assert_eq!(said("one dc1", &many, found), refused("one", "many"));
            assert_eq!(said("one", &many, found), refused("one", "many"));
            assert_eq!(said("many", &one, found), refused("many", "one"));
            assert!(check("ks", None, &one, found).is_err());
        }
    }

    #[test]
    fn a_keyspace_without_a_name_needs_a_single_datacenter() {
        let one = config(Datacenters::One, Some("dc1"));
        assert_eq!(check("ks", Some("one"), &one, &names(&["dc1"])), Ok(()));
        let error = check("ks", Some("one"), &one, &names(&["dc1", "dc2"])).unwrap_err();
        assert!(!error.may_pass());
        assert!(error.to_string().contains("does not say which of `dc1`, `dc2`"), "{error}");
    }
}
