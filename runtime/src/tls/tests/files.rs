//! Files that cannot be served with: each is refused with a message that names it, and changes nothing of what is served.

use std::os::unix::fs::PermissionsExt as _;

use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;

#[track_caller]
fn refused(folder: &Folder, words: &[&str]) {
    let error = folder.load().unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}\nwanted: {words:?}");
}

#[test]
fn what_is_wrong_is_named_with_its_file() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.of_server();
    let folder = || Folder::with(&good, Some(&authority));
    assert!(folder().load().is_ok());

    for (name, field) in [("tls.crt", "certificate"), ("tls.key", "key"), ("ca.crt", "client_ca")] {
        let missing = folder();
        std::fs::remove_file(missing.path().join(name)).unwrap();
        refused(&missing, &[field, name, "No such file"]);
        for text in
            ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            let broken = folder();
            broken.write(name, text);
            refused(&broken, &[field, name]);
        }
        let huge = folder();
        huge.write(name, &"x".repeat(5 << 20));
        refused(&huge, &[field, name, "allowed are at most"]);
    }
    // The key where the certificate should be, and the other way round.
    let swapped = folder();
    swapped.write("tls.crt", &good.key);
    refused(&swapped, &["certificate", "tls.crt", "no certificate in it"]);
    let swapped = folder();
    swapped.write("tls.key", &good.certificate);
    refused(&swapped, &["key", "tls.key", "allowed is PEM without a password"]);

    let mismatch = folder();
    mismatch.write("tls.key", &other.of_server().key);
    refused(&mismatch, &["does not belong to the certificate", "tls.key", "tls.crt"]);
    refused(&Folder::with(&authority.ended(), None), &["certificate", "tls.crt", "has ended at 2021-01-01T00:00:00Z"]);

    let mut nobody = Folder::with(&good, None);
    nobody.config.client_certificates = Some(ClientCertificates::Optional);
    refused(&nobody, &["`client_certificates`", "`client_ca`"]);
}

#[test]
fn a_pair_that_is_refused_leaves_the_one_before() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = Folder::with(&authority.of_server(), None);
    let tls = folder.load().unwrap();
    let served = tls.0.current.load_full();
    let mut seen = tls.0.first;
    let torn = other.of_server();
    let pairs = [("", ""), (&torn.certificate, "rubbish"), (&torn.certificate, &authority.of_server().key)];
    for (certificate, key) in pairs.map(|(certificate, key)| (certificate.to_owned(), key.to_owned())) {
        folder.write("tls.crt", &certificate);
        folder.write("tls.key", &key);
        let now = tls.look(seen);
        assert_ne!(now, seen);
        // Once: the same again says nothing new.
        assert_eq!(tls.look(now), now);
        assert!(Arc::ptr_eq(&served, &tls.0.current.load_full()));
        seen = now;
    }
    std::fs::remove_file(folder.path().join("tls.crt")).unwrap();
    let gone = tls.look(seen);
    assert_ne!(gone, seen);
    assert!(Arc::ptr_eq(&served, &tls.0.current.load_full()));
    folder.write("tls.crt", &torn.certificate);
    folder.write("tls.key", &torn.key);
    tls.look(gone);
    assert!(!Arc::ptr_eq(&served, &tls.0.current.load_full()), "a good one is taken");
}

#[test]
fn a_certificate_that_ended_by_a_clock_that_was_wrong_is_taken_once_it_is_right() {
    let authority = Authority::new();
    let folder = Folder::with(&authority.of_server(), None);
    let right = Timestamp::from_seconds(1_600_000_000).unwrap();
    let clock = Arc::new(ManualClock::new(right));
    let tls = Tls::load(&folder.config, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let served = tls.0.current.load_full();
    // It ends in 2021.
    let renewed = authority.ended();
    clock.set(Timestamp::from_seconds(1_800_000_000).unwrap());
    folder.write("tls.crt", &renewed.certificate);
    folder.write("tls.key", &renewed.key);
    let refused = tls.look(tls.0.first);
    assert_eq!(tls.look(refused), refused, "once, while the clock says the same");
    assert!(Arc::ptr_eq(&served, &tls.0.current.load_full()));
    clock.set(right);
    let taken = tls.look(refused);
    assert!(!Arc::ptr_eq(&served, &tls.0.current.load_full()));
    // It is in use, and nothing new, when it ends.
    clock.set(Timestamp::from_seconds(1_800_000_000).unwrap());
    assert_eq!(tls.look(taken), taken);
}

#[test]
fn a_key_that_all_may_read_is_used_all_the_same() {
    let authority = Authority::new();
    let folder = Folder::with(&authority.of_server(), None);
    std::fs::set_permissions(&folder.config.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(folder.load().is_ok());
}

#[test]
fn the_first_refusal_is_one_more_than_before() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let authority = Authority::new();
    let folder = Folder::with(&authority.of_server(), None);
    let tls = metrics::with_local_recorder(&recorder, || folder.load()).unwrap();
    let refused = || {
        let page = recorder.handle().render();
        page.lines().find_map(|line| line.strip_prefix("tessera_tls_reloads_total{outcome=\"refused\"} ")?.parse().ok())
    };
    assert_eq!(refused(), Some(0_u64));
    folder.write("tls.crt", "rubbish");
    metrics::with_local_recorder(&recorder, || tls.look(tls.0.first));
    assert_eq!(refused(), Some(1));
}
