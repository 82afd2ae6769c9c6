//! The scan of all current states: by token, which is the order in which partitions lie on the nodes.
//!
//! Streams are never removed, and the token of a key never changes, so that a range of tokens always holds the same streams and
//! whatever comes. Bounds are tokens in 8 bytes, most significant first; a range begins behind its first and ends with its last. No
//! key has the least token. Pages are read at the regular quorum, which overlaps that of every append.

use bytes::Bytes;
use tessera_core::stream::StreamKind;
use tessera_ports::event_store::{ReadError, ScanPage, ScanRange};

use crate::keyspace::{Streams, table};
use crate::open::Scylla;
use crate::row::{ScanRow, scanned};
use crate::session::one_line;

/// Parts of the other kinds: they have few streams.
const FEW_RANGES: u32 = 4;
/// Keys in one question of a count.
const COUNT_PAGE: usize = 2_000;
/// Keys after which a count is carried on in proportion: tokens are spread evenly, so that it is wrong by a hundredth or so.
const COUNT_ENOUGH: u64 = 20_000;

fn bound(token: i64) -> Bytes {
    Bytes::copy_from_slice(&token.to_be_bytes())
}

fn token(bound: &[u8]) -> Result<i64, ReadError> {
    let bytes = bound.try_into().map_err(|_| ReadError::Unavailable("a scan range of another store".to_owned()))?;
    Ok(i64::from_be_bytes(bytes))
}

/// All tokens, in so many parts of the same width.
fn cut(parts: u32) -> Vec<(i64, i64)> {
    let parts = i128::from(parts.max(1));
    let (least, width) = (i128::from(i64::MIN), 1_i128 << 64);
    // The last bound is the greatest token exactly.
    let at = |part: i128| i64::try_from(least + (width * part / parts).min(width - 1)).unwrap_or(i64::MAX);
    (0..parts).map(|part| (at(part), at(part + 1))).collect()
}

fn unreadable(kind: StreamKind, why: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged(format!("table `{}`: {}", table(kind), one_line(why)))
}

impl Scylla {
    pub(crate) fn ranges(&self, kind: StreamKind) -> Vec<ScanRange> {
        let parts = match kind {
            StreamKind::Catalog => 1,
            StreamKind::Plan | StreamKind::AddOn => FEW_RANGES.min(self.0.config.scan_ranges),
            StreamKind::Tenant => self.0.config.scan_ranges,
        };
        cut(parts).into_iter().map(|(from, until)| ScanRange { kind, from: bound(from), until: bound(until) }).collect()
    }

    /// Asks for one row more than the page may have, to see whether there is more; where the page is cut, it is cut between two
    /// tokens, since keys may share one.
    pub(crate) async fn scan_page(&self, range: &ScanRange, limit: usize) -> Result<ScanPage, ReadError> {
        let kind = range.kind;
        let keyspace = self.keyspace();
        let streams = keyspace.streams(kind);
        let (from, until) = (token(&range.from)?, token(&range.until)?);
        let mut most = streams.page_rows().min(limit.max(1));
        loop {
            let asked = most.saturating_add(1);
            let values = (from, until, i32::try_from(asked).unwrap_or(i32::MAX));
            let rows = self.rows(&streams.scan, values, self.0.config.scan_timeout()).await?;
            let (mut changes, mut bytes, mut keys) = (Vec::with_capacity(asked), 0, Vec::with_capacity(asked));
            for row in rows.rows::<ScanRow<'_>>().map_err(|error| unreadable(kind, &error))? {
                let row = row.map_err(|error| unreadable(kind, &error))?;
                bytes += row.state.map_or(0, <[u8]>::len);
                keys.push(row.key);
                let scanned = scanned(kind, keyspace.identity.epoch, &row);
                if let Some(damage) = scanned.damage {
                    self.tell(damage);
                }
                changes.push(scanned.change);
            }
            streams.saw_page(keys.len(), bytes);
            let cut = cut_page(&keys, asked, |key| token_of(streams, key)).map_err(|error| unreadable(kind, &error))?;
            let (kept, rest) = match cut {
                Some(Cut::End) => (keys.len(), None),
                Some(Cut::After { kept, token }) => (kept, Some(ScanRange { from: bound(token), ..range.clone() })),
                // More keys with one token than the page may have: they can only come together.
                None => {
                    most = most.saturating_mul(2);
                    continue;
                }
            };
            changes.truncate(kept);
            return Ok(ScanPage { changes: changes.into_iter().flatten().collect(), rest });
        }
    }

    /// Exact for few streams, in proportion to the tokens seen for many.
    pub(crate) async fn count_streams(&self, kind: StreamKind) -> Result<u64, ReadError> {
        let keyspace = self.keyspace();
        let streams = keyspace.streams(kind);
        let (mut from, mut counted) = (i64::MIN, 0_u64);
        loop {
            let values = (from, i64::MAX, i32::try_from(COUNT_PAGE).unwrap_or(i32::MAX));
            let rows = self.rows(&streams.keys, values, self.0.config.scan_timeout()).await?;
            let mut last = None;
            let mut came = 0_usize;
            for row in rows.rows::<(&str,)>().map_err(|error| unreadable(kind, &error))? {
                let (key,) = row.map_err(|error| unreadable(kind, &error))?;
                last = Some(token_of(streams, key).map_err(|error| unreadable(kind, &error))?);
                came += 1;
            }
            counted = counted.saturating_add(came as u64);
            let Some(last) = last.filter(|_| came >= COUNT_PAGE) else { return Ok(counted) };
            if counted >= COUNT_ENOUGH {
                return Ok(in_proportion(counted, last));
            }
            from = last;
        }
    }
}

/// So many keys up to that token; how many are there in all?
fn in_proportion(counted: u64, until: i64) -> u64 {
    let seen = (i128::from(until) - i128::from(i64::MIN)).max(1);
    u64::try_from((i128::from(counted) << 64) / seen).unwrap_or(u64::MAX)
}

fn token_of(streams: &Streams, key: &str) -> Result<i64, String> {
    let token = streams.head.calculate_token(&(key,)).map_err(|error| error.to_string())?;
    Ok(token.ok_or_else(|| "a key has no token".to_owned())?.value())
}

#[derive(Debug, PartialEq, Eq)]
enum Cut {
    /// The range ends with the page.
    End,
    /// So many rows, and the range goes on behind that token.
    After { kept: usize, token: i64 },
}

/// Where a page ends of which `asked` rows were asked for, the last of them only to see whether it is there. `None`: all have the
/// same token. Tokens rise, and only those at the end are looked at.
fn cut_page<K: Copy, E>(keys: &[K], asked: usize, token: impl Fn(K) -> Result<i64, E>) -> Result<Option<Cut>, E> {
    let Some((beyond, before)) = keys.get(..asked).and_then(<[K]>::split_last) else { return Ok(Some(Cut::End)) };
    let beyond = token(*beyond)?;
    for (place, key) in before.iter().enumerate().rev() {
        let token = token(*key)?;
        if token != beyond {
            return Ok(Some(Cut::After { kept: place.saturating_add(1), token }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_token_once() {
        for parts in [1, 2, 3, 7, 64, 4_096] {
            let all = cut(parts);
            assert_eq!(all.len(), parts as usize);
            assert_eq!((all[0].0, all[all.len() - 1].1), (i64::MIN, i64::MAX), "{parts}");
            assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0), "{parts}");
            assert!(all.iter().all(|(from, until)| from < until), "{parts}");
        }
    }

    #[test]
    fn pages_are_cut_between_tokens() {
        let cut_page = |tokens: &[i64], asked| cut_page(tokens, asked, Ok::<i64, ()>).unwrap();
        let after = |kept, token| Some(Cut::After { kept, token });
        assert_eq!(cut_page(&[], 3), Some(Cut::End));
        assert_eq!(cut_page(&[1, 2], 3), Some(Cut::End));
        assert_eq!(cut_page(&[1, 2, 3], 3), after(2, 2));
        assert_eq!(cut_page(&[1, 3, 3], 3), after(1, 1));
        assert_eq!(cut_page(&[3, 3, 3], 3), None);
    }

    #[test]
    fn many_are_counted_in_proportion() {
        assert_eq!(in_proportion(20_000, i64::MAX), 20_000);
        assert_eq!(in_proportion(20_000, 0), 40_000);
        let tenth = in_proportion(20_000, i64::MIN + i64::MAX / 5);
        assert!((199_990..200_010).contains(&tenth), "{tenth}");
    }
}
