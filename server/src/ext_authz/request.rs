//! `envoy.service.auth.v3.CheckRequest`, read in place: a look at each field of the message once, and at headers, metadata and
//! extensions only when one of them is asked for. Nothing is copied.

use prost::encoding::WireType;

use crate::wire::decode::{fields, message};

/// What Envoy says of a request, as far as rules can ask for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// `attributes`, for extensions and metadata.
    attributes: &'a [u8],
    /// `attributes.request.http`, for headers.
    http: &'a [u8],
    /// The method, as the client wrote it.
    pub(crate) method: &'a str,
    /// Path and query, as the client wrote them unless Envoy normalizes paths.
    pub(crate) target: &'a str,
    /// Host or authority, with its port.
    pub(crate) host: &'a str,
    /// Who the client's certificate says it is; empty without one.
    pub(crate) principal: &'a str,
    /// The name that the client asked for in TLS; empty without one.
    pub(crate) sni: &'a str,
}

/// Why there is no value where one was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No Envoy sends such a message.
    Malformed,
    /// There is more than one, or it is no text.
    Ambiguous,
}

/// Of `attributes`.
const SOURCE: u32 = 1;
const REQUEST: u32 = 4;
const EXTENSIONS: u32 = 10;
const METADATA: u32 = 11;
const TLS: u32 = 12;
const ROUTE_METADATA: u32 = 13;
/// Of `attributes.request.http`.
const HEADERS: u32 = 3;
const RAW_HEADERS: u32 = 13;

type Found<'a> = Result<Option<&'a str>, Trouble>;

impl<'a> Request<'a> {
    /// Reads the message. `None`: it is malformed, or says something twice that there is only one of.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut request = Self { attributes: only(bytes, 1)?, ..Self::default() };
        let [mut source, mut around, mut tls] = [None; 3];
        fields(request.attributes, |tag, wire, rest| {
            match tag {
                SOURCE => once(&mut source, message(wire, rest)?)?,
                REQUEST => once(&mut around, message(wire, rest)?)?,
                TLS => once(&mut tls, message(wire, rest)?)?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        request.http = only(around.unwrap_or_default(), 2)?;
        fields(request.http, |tag, wire, rest| {
            match tag {
                2 => request.method = readable(message(wire, rest)?),
                4 => request.target = readable(message(wire, rest)?),
                5 => request.host = readable(message(wire, rest)?),
                _ => return Some(false),
            }
            Some(true)
        })?;
        request.principal = one_text(source.unwrap_or_default(), 4)?;
        request.sni = one_text(tls.unwrap_or_default(), 1)?;
        Some(request)
    }

    /// The path, without its query.
    pub(crate) fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The host, without its port and without the dot of the root.
    pub(crate) fn host_name(&self) -> &'a str {
        let end = self.host.rfind(']').map_or(0, |bracket| bracket + 1);
        let (address, port) = self.host.split_at_checked(end).unwrap_or((self.host, ""));
        let name = if end > 0 { address } else { port.split_once(':').map_or(port, |(name, _)| name) };
        name.strip_suffix('.').unwrap_or(name)
    }

    /// An entry of `context_extensions`.
    pub(crate) fn extension(&self, key: &str) -> Found<'a> {
        let mut found = None;
        entries(self.attributes, EXTENSIONS, |entry| {
            let (name, value) = pair(entry)?;
            if name == key.as_bytes() {
                found = Some(note(found, str::from_utf8(value).ok()?));
            }
            Some(())
        })
        .ok_or(Trouble::Malformed)?;
        found.transpose()
    }

    /// A header, by its name in lower case, in whichever form Envoy sends headers. Envoy joins those of one name by commas unless
    /// it sends them raw: a value with a comma may be two, and is none.
    pub(crate) fn header(&self, name: &str) -> Found<'a> {
        let mut found = None;
        let mut see = |key: &[u8], value: &'a [u8]| {
            if key.eq_ignore_ascii_case(name.as_bytes()) {
                let value = str::from_utf8(value).ok().filter(|value| !value.contains(','));
                found = Some(value.map_or(Err(Trouble::Ambiguous), |value| note(found, value)));
            }
        };
        let read = entries(self.http, HEADERS, |entry| {
            let (key, value) = pair(entry)?;
            see(key, value);
            Some(())
        });
        read.ok_or(Trouble::Malformed)?;
        // Once per form: whoever has several of one name in raw form has more than one.
        let mut raw = 0_usize;
        let read = entries(self.http, RAW_HEADERS, |map| {
            entries(map, 1, |header| {
                let [mut key, mut value, mut bytes] = [&[][..]; 3];
                fields(header, |tag, wire, rest| {
                    match tag {
                        1 => key = message(wire, rest)?,
                        2 => value = message(wire, rest)?,
                        3 => bytes = message(wire, rest)?,
                        _ => return Some(false),
                    }
                    Some(true)
                })?;
                raw += usize::from(key.eq_ignore_ascii_case(name.as_bytes()));
                see(key, if bytes.is_empty() { value } else { bytes });
                Some(())
            })
        });
        read.ok_or(Trouble::Malformed)?;
        if raw > 1 { Err(Trouble::Ambiguous) } else { found.transpose() }
    }

    /// A text in `metadata_context`, by namespace and the names on the way to it.
    pub(crate) fn metadata(&self, namespace: &str, path: &[String]) -> Found<'a> {
        self.in_metadata(METADATA, namespace, path)
    }

    /// A text in `route_metadata_context`.
    pub(crate) fn route_metadata(&self, namespace: &str, path: &[String]) -> Found<'a> {
        self.in_metadata(ROUTE_METADATA, namespace, path)
    }

    fn in_metadata(&self, field: u32, namespace: &str, path: &[String]) -> Found<'a> {
        let metadata = only(self.attributes, field).ok_or(Trouble::Malformed)?;
        let Some(mut fields_of) = keyed(metadata, namespace)? else { return Ok(None) };
        for (place, name) in path.iter().enumerate() {
            let Some(value) = keyed(fields_of, name)? else { return Ok(None) };
            let (mut string, mut inner, mut other) = (None, None, false);
            fields(value, |tag, wire, rest| {
                match tag {
                    3 => string = Some(str::from_utf8(message(wire, rest)?)),
                    5 => inner = Some(message(wire, rest)?),
                    _ => {
                        other = true;
                        return Some(false);
                    }
                }
                Some(true)
            })
            .ok_or(Trouble::Malformed)?;
            match (string, inner, place + 1 == path.len()) {
                (Some(Ok(text)), None, true) if !other => return Ok(Some(text)),
                (None, Some(inner), false) if !other => fields_of = inner,
                // A number, a list, a text where more should be inside: nothing that was meant.
                _ => return Err(Trouble::Ambiguous),
            }
        }
        Ok(None)
    }
}

/// The first value, or the same once more.
fn note<'a>(before: Option<Result<&'a str, Trouble>>, value: &'a str) -> Result<&'a str, Trouble> {
    match before {
        None => Ok(value),
        Some(Ok(before)) if before == value => Ok(value),
        Some(_) => Err(Trouble::Ambiguous),
    }
}

fn once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// The only message of that number, empty if it is not there; `None` when it is there twice.
fn only(bytes: &[u8], number: u32) -> Option<&[u8]> {
    let mut found = None;
    entries(bytes, number, |value| once(&mut found, value))?;
    Some(found.unwrap_or_default())
}

fn one_text(bytes: &[u8], number: u32) -> Option<&str> {
    only(bytes, number).map(readable)
}

/// What a client may have written: bytes that are no text are a text that means nothing, not a message that fails.
fn readable(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or("\u{fffd}")
}

/// Hands every field of that number to `see`.
fn entries<'a>(bytes: &'a [u8], number: u32, mut see: impl FnMut(&'a [u8]) -> Option<()>) -> Option<()> {
    fields(bytes, |tag, wire, rest| {
        if tag != number {
            return Some(false);
        }
        see(message(wire, rest)?)?;
        Some(true)
    })
}

/// Key and value of an entry of a map.
fn pair(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let [mut key, mut value] = [&[][..]; 2];
    fields(entry, |tag, wire, rest| {
        match (tag, wire) {
            (1, WireType::LengthDelimited) => key = message(wire, rest)?,
            (2, WireType::LengthDelimited) => value = message(wire, rest)?,
            _ => return Some(false),
        }
        Some(true)
    })?;
    Some((key, value))
}

/// The value of a key in a map that is field 1.
fn keyed<'a>(bytes: &'a [u8], key: &str) -> Result<Option<&'a [u8]>, Trouble> {
    let (mut found, mut twice) = (None, false);
    entries(bytes, 1, |entry| {
        let (name, value) = pair(entry)?;
        if name == key.as_bytes() {
            twice |= found.replace(value).is_some();
        }
        Some(())
    })
    .ok_or(Trouble::Malformed)?;
    if twice { Err(Trouble::Ambiguous) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
