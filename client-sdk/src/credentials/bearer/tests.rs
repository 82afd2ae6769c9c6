//! Tokens: what is one, and how a file is followed. Time is paused.

use super::*;

fn refused(bearer: Result<Bearer, Error>) -> String {
    bearer.unwrap_err().to_string()
}

/// Lets time pass until the token is that.
async fn until_shown(bearer: &Bearer, token: &str) {
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..1_000 {
        if bearer.value() == format!("Bearer {token}") {
            return;
        }
        looks.tick().await;
    }
    panic!("`{token}` was never shown");
}

#[test]
fn what_is_no_token_is_refused_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let long = "s".repeat(TOKEN_LEN_MAX + 1);
    for (text, expected) in [
        ("", "the token is empty"),
        (" \n", "the token is empty"),
        ("secret\u{7f}", "no token"),
        ("secret secret", "no token"),
        ("sécret", "no token"),
        (long.as_str(), "too long"),
    ] {
        std::fs::write(&path, text).unwrap();
        let (given, read) = (refused(Bearer::of(text)), refused(Bearer::of_file(path.clone())));
        assert!(given.starts_with("`token`: ") && given.contains(expected), "{given}");
        assert!(read.starts_with("`token_file`: ") && read.contains(expected), "{read}");
        assert!(read.contains(path.to_str().unwrap()), "{read}");
        assert!(![given, read].iter().any(|said| said.contains("cret") || said.len() > 300));
    }
    let missing = refused(Bearer::of_file(folder.path().join("none")));
    assert!(missing.contains("cannot read `") && missing.contains("none"), "{missing}");
}

#[test]
fn the_longest_token_is_taken_with_white_space_round_it() {
    let token = "t".repeat(TOKEN_LEN_MAX - 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, format!(" {token}\n")).unwrap();
    assert_eq!(Bearer::of_file(path).unwrap().value(), format!("Bearer {token}"));
    assert_eq!(Bearer::of(&format!(" {token}\n")).unwrap().value(), format!("Bearer {token}"));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_followed_through_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "one\n").unwrap();
    let bearer = Bearer::of_file(path.clone()).unwrap();
    let _follower = bearer.follow();
    std::fs::write(&path, "two\n").unwrap();
    until_shown(&bearer, "two").await;
    for useless in [Some(""), Some("\u{0}"), None] {
        match useless {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        tokio::time::sleep(LOOK_INTERVAL * 3).await;
        assert_eq!(bearer.value(), "Bearer two");
    }
    std::fs::write(&path, "three").unwrap();
    until_shown(&bearer, "three").await;
    assert_eq!(bearer.number(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_need_not_wait_for_the_next_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "one").unwrap();
    let bearer = Bearer::of_file(path.clone()).unwrap();
    let _follower = bearer.follow();
    let begun = tokio::time::Instant::now();
    assert!(!bearer.has_newer(1).await, "it is the same");
    std::fs::write(&path, "two").unwrap();
    let many = futures::future::join_all((0..1_000).map(|_| bearer.has_newer(1)));
    assert!(many.await.into_iter().all(|newer| newer));
    assert!(bearer.has_newer(1).await && !bearer.has_newer(2).await);
    assert!(begun.elapsed() < LOOK_INTERVAL, "{:?}", begun.elapsed());
    assert!(!Bearer::of("fixed").unwrap().has_newer(1).await, "there is nothing to read");
}

#[tokio::test(start_paused = true)]
async fn nobody_follows_when_the_client_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "one").unwrap();
    let bearer = Bearer::of_file(path).unwrap();
    let follower = bearer.follow();
    let holders = || Arc::strong_count(&bearer.0);
    assert_eq!(holders(), 2);
    drop(follower);
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..1_000 {
        if holders() == 1 {
            return;
        }
        looks.tick().await;
    }
    panic!("the task still holds the token");
}
