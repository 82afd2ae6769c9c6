//! `token`: API tokens, in a file that servers and loaders read (`identity.tokens_file`) and take over by themselves.
//!
//! A token is printed once, when it is made; the file has its hash. Nothing here talks to a process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use tessera_core::access::Scope;
use tessera_core::shown::shown;
use tessera_core::time::Timestamp;
use tessera_ports::Clock as _;
use tessera_runtime::clock::SystemClock;
use tessera_runtime::identity::tokens::{FreshToken, TokenEntry, TokenFile};
use tessera_runtime::time_text::{format_time, parse_duration, parse_time};

use crate::console::{Console, table};
use crate::replacement::Replacement;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it: it cannot be read again
    Create {
        /// Whose it is; in the audit log it is `token:<name>`
        name: String,
        /// What it may do: decide, read, write:plans, write:tenants, audit
        #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',', value_parser = scope)]
        scopes: Vec<Scope>,
        /// Only for this tenant; may be given several times [default: all tenants]
        #[arg(long = "tenant", value_name = "TENANT")]
        tenants: Vec<String>,
        #[command(flatten)]
        life: Life,
        #[command(flatten)]
        place: Place,
    },
    /// List the tokens; shows nothing that could be used
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Make a new secret for a token and print it; the old one stays good for a while
    Rotate {
        /// Whose it is
        name: String,
        /// How long the old secret stays good
        #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_duration)]
        keep: Duration,
        #[command(flatten)]
        life: Life,
        #[command(flatten)]
        place: Place,
    },
    /// Take a token away: it is refused within seconds
    Revoke {
        /// Whose it is
        name: String,
        /// Go ahead without asking; needed where there is no terminal
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// For how long a new secret is good.
#[derive(Debug, Clone, Copy, Args)]
pub struct Life {
    /// How long the new secret is good, such as 90d; at most 3653d
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_duration)]
    expires: Duration,
}

/// Where the tokens are.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The file of tokens, as `identity.tokens_file` of servers and loaders names it
    #[arg(long, value_name = "FILE", env = "TESSERA_TOKENS_FILE", hide_env_values = true, default_value = "tokens.toml")]
    tokens_file: PathBuf,
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).map_err(|error| error.to_string())
}

/// `tessera token`.
pub fn run(console: &Console, command: TokenCommand) -> anyhow::Result<()> {
    let now = SystemClock.now();
    match command {
        TokenCommand::Create { name, scopes, tenants, life, place } => {
            let tenants = (!tenants.is_empty()).then_some(tenants);
            let token = fresh()?;
            let entry = entry(&name, &token, &scopes, tenants, (now, life))?;
            change(&place.tokens_file, |file| {
                ensure!(
                    !file.tokens.iter().any(|token| token.name == name && is_good(token, now)),
                    "there is a token `{name}` already; allowed are another name, and `tessera token rotate {name}`"
                );
                file.tokens.retain(|token| token.name != name);
                file.tokens.push(entry.clone());
                Ok(())
            })?;
            made(console, &token, &entry)
        }
        TokenCommand::List { place } => list(console, &TokenFile::read(&place.tokens_file)?.tokens, now),
        TokenCommand::Rotate { name, keep, life, place } => {
            let (token, mut new) = (fresh()?, None);
            change(&place.tokens_file, |file| {
                let newest = file.tokens.iter().rfind(|token| token.name == name).with_context(|| unknown(&name))?.clone();
                let scopes = newest.scopes.iter().map(|scope| Scope::parse(scope)).collect::<Result<Vec<_>, _>>()?;
                let made = entry(&name, &token, &scopes, newest.tenants, (now, life))?;
                file.tokens.retain(|token| token.name != name || is_good(token, now));
                let until = now.saturating_add(keep);
                for old in file.tokens.iter_mut().filter(|token| token.name == name) {
                    if parse_time(&old.expires).is_ok_and(|expires| expires > until) {
                        old.expires = format_time(until);
                    }
                }
                file.tokens.push(made.clone());
                new = Some(made);
                Ok(())
            })?;
            made(console, &token, &new.context("no token was made")?)
        }
        TokenCommand::Revoke { name, yes, place } => {
            console.confirm(yes, &format!("take the token `{}` away?", shown(&name)))?;
            change(&place.tokens_file, |file| {
                let before = file.tokens.len();
                file.tokens.retain(|token| token.name != name);
                ensure!(file.tokens.len() < before, unknown(&name));
                Ok(())
            })?;
            console.note(&format!(
                "token `{name}` is revoked; servers and loaders refuse it as soon as they have looked at the file"
            ));
            Ok(())
        }
    }
}

fn unknown(name: &str) -> String {
    format!("there is no token `{}`; `tessera token list` names those that there are", shown(name))
}

fn fresh() -> anyhow::Result<FreshToken> {
    let mut chance = [0; 32];
    getrandom::fill(&mut chance).map_err(|error| anyhow::anyhow!("the system has no randomness to give: {error}"))?;
    Ok(FreshToken::new(chance))
}

fn entry(
    name: &str,
    token: &FreshToken,
    scopes: &[Scope],
    tenants: Option<Vec<String>>,
    (now, life): (Timestamp, Life),
) -> anyhow::Result<TokenEntry> {
    TokenFile::entry(name, token, scopes, tenants, (now, now.saturating_add(life.expires))).map_err(anyhow::Error::msg)
}

fn is_good(token: &TokenEntry, now: Timestamp) -> bool {
    parse_time(&token.expires).is_ok_and(|expires| expires > now)
}

/// The token alone goes to standard output, so that it can be put where it belongs.
fn made(console: &Console, token: &FreshToken, entry: &TokenEntry) -> anyhow::Result<()> {
    console.note(&format!("token `{}`, good until {}; this is the only time it is shown", entry.name, entry.expires));
    let value = json!({
        "name": entry.name, "token": token.reveal(), "scopes": entry.scopes, "tenants": entry.tenants, "expires": entry.expires
    });
    console.answer(&value, || format!("{}\n", token.reveal()))
}

fn list(console: &Console, tokens: &[TokenEntry], now: Timestamp) -> anyhow::Result<()> {
    let state = |token: &TokenEntry| if is_good(token, now) { "good" } else { "expired" }.to_owned();
    let value: Vec<_> = tokens
        .iter()
        .map(|token| {
            json!({
                "name": token.name, "scopes": token.scopes, "tenants": token.tenants, "created": token.created,
                "expires": token.expires, "state": state(token)
            })
        })
        .collect();
    console.answer(&json!({ "tokens": value }), || {
        let rows = tokens.iter().map(|token| {
            let tenants = token.tenants.as_ref().map_or_else(|| "all".to_owned(), |tenants| tenants.join(" "));
            [token.name.clone(), token.scopes.join(" "), tenants, token.created.clone(), token.expires.clone(), state(token)]
        });
        table(["NAME", "SCOPES", "TENANTS", "CREATED", "EXPIRES", "STATE"], rows)
    })
}

/// Writes the file anew, whole, so that no token that was taken away is back after a loss of power. What is beside it meanwhile keeps
/// a second writer out.
fn change(path: &Path, change: impl FnOnce(&mut TokenFile) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let new = Replacement::alone(path)?;
    let path = new.path();
    let there = path.try_exists().with_context(|| format!("cannot read the file of tokens `{}`", path.display()))?;
    let mut file = if there { TokenFile::read(path)? } else { TokenFile::default() };
    change(&mut file)?;
    let text = file.text().context("the tokens cannot be written as TOML")?;
    let written = new.file().write_all(text.as_bytes());
    written.with_context(|| format!("cannot write the file of tokens beside `{}`", path.display()))?;
    new.put()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_file_is_changed_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let (token, now) = (fresh().unwrap(), SystemClock.now());
        let life = Life { expires: Duration::from_hours(1) };
        let entry = entry("ci", &token, &[Scope::Read], None, (now, life)).unwrap();
        change(&path, |file| {
            file.tokens.push(entry.clone());
            Ok(())
        })
        .unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!kept.contains(token.reveal()));

        let refused = change(&path, |file| {
            file.tokens.clear();
            anyhow::bail!("second thoughts")
        });
        assert_eq!(refused.unwrap_err().to_string(), "second thoughts");
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        let beside = folder.path().join("tokens.toml.new");
        fs::write(&beside, "").unwrap();
        let refused = format!("{:#}", change(&path, |_| Ok(())).unwrap_err());
        assert!(refused.contains("tokens.toml.new") && refused.contains("broken off"), "{refused}");
        fs::remove_file(&beside).unwrap();

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        change(&path, |_| Ok(())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "who may read it stays");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn whose_file_it_is_stays_and_a_link_to_it_leads_to_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("tokens.toml"), folder.path().join("link.toml"));
        change(&path, |_| Ok(())).unwrap();
        symlink(&path, &link).unwrap();
        // Only root may give a file away; anybody else keeps it.
        drop(chown(&path, Some(12_345), Some(12_346)));
        let before = fs::metadata(&path).unwrap();
        change(&link, |_| Ok(())).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert_ne!(after.ino(), before.ino(), "it is another file");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        fs::remove_file(&path).unwrap();
        let refused = change(&link, |_| Ok(())).unwrap_err().to_string();
        assert!(refused.contains("link.toml"), "{refused}");
        assert!(!path.exists() && fs::symlink_metadata(&link).unwrap().is_symlink(), "a link to nothing is left alone");
    }
}
