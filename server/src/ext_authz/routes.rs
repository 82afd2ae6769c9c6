//! The table of methods and path templates, made once.
//!
//! Only normal paths are judged, by the table or by what Envoy says (RFC 3986, section 6.2.2): whoever serves the request may see
//! another path behind `//`, `/../` or `%2e` than we do, and the rule of the one must not let in what goes to the other. What may
//! be written as it is or escaped (`:` and `%3A`, `%3a`) is one path to most who serve it: the table is asked for what the escapes
//! stand for, and its templates are read so, too.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use matchit::Router;

use super::settings::{Refused, Route, refused};

/// The table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    by_template: Router<BTreeMap<String, Route>>,
    parameters: BTreeSet<String>,
}

/// A route that was found.
#[derive(Debug)]
pub(crate) struct Matched<'t, 'p> {
    pub(crate) route: &'t Route,
    parameters: matchit::Params<'t, 'p>,
}

impl<'p> Matched<'_, 'p> {
    /// What stands for `{name}`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'p str> {
        self.parameters.get(name)
    }
}

impl Routes {
    /// Makes the table, unless a route is wrong or two are for the same requests.
    pub(crate) fn compile(routes: &[Route]) -> Result<Self, Refused> {
        let mut table = Self::default();
        let mut by_path: BTreeMap<String, BTreeMap<String, Route>> = BTreeMap::new();
        for route in routes {
            route.check()?;
            let Some(template) = template(&route.path, &mut table.parameters) else {
                return Err(refused(
                    "routes.path",
                    &route.path,
                    "a normal path that begins with `/`, with `{name}` for whole parts and `{*name}` for the last of them",
                ));
            };
            if let Some(other) = by_path.entry(template).or_default().insert(route.method.clone(), route.clone()) {
                return Err(Refused::SameRoute { route: route.title(), other: other.title() });
            }
        }
        for (path, methods) in by_path {
            table.by_template.insert(&path, methods).map_err(|error| match error {
                matchit::InsertError::Conflict { with } if nameless(&path).eq(nameless(&with)) => refused(
                    "routes.path",
                    path,
                    format!("the names that `{with}` has for its parts: both are for the same paths"),
                ),
                matchit::InsertError::Conflict { with } => {
                    let allowed = format!(
                        "what does not meet `{with}`: a `{{name}}` and a `{{*name}}` cannot stand at the same place; \
                         `/{{name}}`, `/{{name}}/` and `/{{name}}/{{*rest}}` are for all that `/{{*rest}}` is for"
                    );
                    refused("routes.path", path, allowed)
                }
                other => refused("routes.path", path, format!("a template: {other}")),
            })?;
        }
        Ok(table)
    }

    /// The names of all `{…}`.
    pub(crate) fn parameters(&self) -> super::settings::Names<'_> {
        self.parameters.iter().map(String::as_str).collect()
    }

    /// The route of a request, by its [`normal`] path; `None` when the table has none.
    pub(crate) fn find<'t, 'p>(&'t self, method: &str, path: &'p str) -> Option<Matched<'t, 'p>> {
        let found = self.by_template.at(path).ok()?;
        let route = found.value.get(method).or_else(|| found.value.get("*"))?;
        Some(Matched { route, parameters: found.params })
    }
}

/// A template part by part, without the names of its parameters.
fn nameless(template: &str) -> impl Iterator<Item = &str> {
    template.split('/').map(|part| match part.as_bytes() {
        [b'{', b'*', ..] => "{*}",
        // Twice, a brace is meant as it is.
        [b'{', second, ..] if *second != b'{' => "{}",
        _ => part,
    })
}

/// A template with the escapes of its literals dissolved, whose names are added to `names`; `None` when it is not normal.
fn template(path: &str, names: &mut BTreeSet<String>) -> Option<String> {
    let (mut template, mut plain) = (String::with_capacity(path.len()), String::with_capacity(path.len()));
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("{{") {
            // A brace that is meant as it is stands twice in a template.
            template.push_str("{{");
            plain.push('{');
            rest = after;
        } else if let Some(named) = rest.strip_prefix('{') {
            let (name, after) = named.split_once('}')?;
            let ends_its_part = after.is_empty() || (after.starts_with('/') && !name.starts_with('*'));
            if !plain.ends_with('/') || !ends_its_part {
                return None;
            }
            names.insert(name.trim_start_matches('*').to_owned());
            template.extend(["{", name, "}"]);
            // As any letter.
            plain.push('x');
            rest = after;
        } else {
            let (literal, after) = rest.split_at_checked(rest.find('{').unwrap_or(rest.len()))?;
            let braces = [("%7B", "{{"), ("%7b", "{{"), ("%7D", "}}"), ("%7d", "}}")];
            let literal_twice = braces.iter().fold(literal.to_owned(), |text, (escape, twice)| text.replace(escape, twice));
            template.push_str(&dissolved(&literal_twice)?);
            plain.push_str(literal);
            rest = after;
        }
    }
    normal(&plain).map(|_| template)
}

/// What a path, without its query, means to whoever routes requests: the path with its escapes dissolved. `None` when somebody can
/// take it for another one: it has to be absolute, with no empty part but the last, no `.` or `..`, no `;`, `\` or fragment, nothing
/// beyond ASCII, and no escape of what need not be escaped or is a separator, nor any that are no text.
pub(crate) fn normal(path: &str) -> Option<Cow<'_, str>> {
    let mut parts = path.strip_prefix('/')?.split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        if (part.is_empty() && !is_last) || part == "." || part == ".." {
            return None;
        }
    }
    if path.bytes().any(|byte| matches!(byte, b'\\' | b';' | b'#' | b'?' | 0..=b' ' | 0x7f..)) {
        return None;
    }
    dissolved(path)
}

/// A text with what its escapes stand for; `None` when one must not be, or they are no text.
fn dissolved(text: &str) -> Option<Cow<'_, str>> {
    let Some((before, escapes)) = text.split_once('%') else { return Some(Cow::Borrowed(text)) };
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(before.as_bytes());
    for escape in escapes.split('%') {
        let (digits, literal) = escape.split_at_checked(2)?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) || !may_be_escaped(byte) {
            return None;
        }
        bytes.push(byte);
        bytes.extend_from_slice(literal.as_bytes());
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Neither unreserved (RFC 3986, section 2.3), so that it has one spelling, nor a separator or its escape, nor a control.
fn may_be_escaped(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || b"-._~/\\%;#?".contains(&byte) || byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(method: &str, path: &str) -> Route {
        Route {
            method: method.to_owned(),
            path: path.to_owned(),
            service: Some("reporting".to_owned()),
            feature: None,
            limit: None,
            amount: None,
        }
    }

    fn refusal(routes: &[(&str, &str)]) -> String {
        let routes: Vec<Route> = routes.iter().map(|(method, path)| route(method, path)).collect();
        Routes::compile(&routes).expect_err("refused").to_string()
    }

    #[test]
    fn the_longest_literal_wins_and_methods_are_told_apart() {
        let routes = [("GET", "/a/{id}"), ("*", "/a/{id}"), ("GET", "/a/b"), ("POST", "/files/{*rest}")];
        let table = Routes::compile(&routes.map(|(method, path)| route(method, path))).unwrap();
        let found = |method: &str, path: &str| table.find(method, path).map(|matched| matched.route.title());
        assert_eq!(found("GET", "/a/b").unwrap(), "GET /a/b");
        assert_eq!(found("GET", "/a/c").unwrap(), "GET /a/{id}");
        assert_eq!(found("GET", "/a/B").unwrap(), "GET /a/{id}", "a capital is another letter");
        assert_eq!(found("GET", "/A/b"), None);
        assert_eq!(found("DELETE", "/a/c").unwrap(), "* /a/{id}");
        assert_eq!(found("DELETE", "/a/b"), None, "a template is one place, whoever else would match");
        assert_eq!(found("GET", "/files/x"), None);
        assert_eq!(table.find("POST", "/files/x/y").unwrap().parameter("rest"), Some("x/y"));
        assert_eq!(table.find("GET", "/a/42").unwrap().parameter("id"), Some("42"));
        assert_eq!(found("GET", "/"), None);
    }

    #[test]
    fn what_is_for_the_same_requests_is_refused() {
        assert!(refusal(&[("GET", "/a"), ("GET", "/a")]).contains("`GET /a` and `GET /a`, which are for the same requests"));
        assert!(
            refusal(&[("GET", "/a/{x}"), ("POST", "/a/{y}")]).contains("is `/a/{y}`; allowed is the names that `/a/{x}` has")
        );
        assert!(refusal(&[("GET", "a")]).contains("`ext_authz.routes.path` is `a`; allowed is a normal path"));
        assert!(refusal(&[("GET", "/a//b")]).contains("allowed is a normal path"));
        assert!(
            refusal(&[("get", "/a")]).contains("`ext_authz.routes.method` is `get`; allowed is `*`, or a method in capitals")
        );
        assert!(refusal(&[("GET", "/a/{x")]).contains("`ext_authz.routes.path`"));
        assert!(refusal(&[("GET", "/a/{*x}"), ("POST", "/a/{*y}")]).contains("allowed is the names that `/a/{*x}` has"));
        for path in ["/foo-{bar}", "/{bar}-foo", "/{a}{b}", "/{a}}}", "/foo-{*bar}", "/{*rest}/a", "/{*rest}a"] {
            let expected = format!("`ext_authz.routes.path` is `{path}`; allowed is a normal path");
            let refusal = refusal(&[("GET", path)]);
            assert!(refusal.starts_with(&expected) && refusal.contains("`{name}` for whole parts"), "{refusal}");
        }
    }

    #[test]
    fn a_part_and_all_that_follows_are_told_apart_from_routes_for_the_same_requests() {
        for other in ["/{tenant}", "/{tenant}/reports", "/{tenant}/{*rest}"] {
            let refusal = refusal(&[("GET", other), ("*", "/"), ("*", "/{*rest}")]);
            let expected = format!("`ext_authz.routes.path` is `{other}`; allowed is what does not meet `/{{*rest}}`");
            assert!(refusal.starts_with(&expected), "{refusal}");
        }
        // As the message says.
        let paths = ["/", "/{tenant}", "/{tenant}/", "/{tenant}/{*rest}", "/{tenant}/reports"];
        let table = Routes::compile(&paths.map(|path| route("*", path))).unwrap();
        let found = |path: &str| table.find("GET", path).map(|matched| matched.route.path.as_str());
        assert_eq!(found("/acme/reports"), Some("/{tenant}/reports"));
        for path in
            ["/", "/a", "/acme/", "/acme/x", "/acme/rep", "/acme/reports/", "/acme/reports/7", "/acme/reportsx", "/a/b/c/"]
        {
            assert!(found(path).is_some_and(|path| path != "/{tenant}/reports"), "{path}: {:?}", found(path));
        }
    }

    #[test]
    fn templates_are_read_as_paths_are() {
        let routes =
            [("GET", "/v1/reports%3aexport"), ("POST", "/v1/reports:export"), ("GET", "/caf%C3%A9/{name}"), ("GET", "/%7Ba}}")];
        let table = Routes::compile(&routes.map(|(method, path)| route(method, path))).unwrap();
        let found = |method: &str, path: &str| table.find(method, &normal(path)?).map(|matched| matched.route.title());
        for path in ["/v1/reports:export", "/v1/reports%3Aexport", "/v1/reports%3aexport"] {
            assert_eq!(found("GET", path).unwrap(), "GET /v1/reports%3aexport", "{path}");
            assert_eq!(found("POST", path).unwrap(), "POST /v1/reports:export", "{path}");
        }
        assert_eq!(found("GET", "/caf%c3%a9/%7Ba}").unwrap(), "GET /caf%C3%A9/{name}");
        for path in ["/{a}", "/%7Ba%7D", "/%7ba}"] {
            assert_eq!(found("GET", path).unwrap(), "GET /%7Ba}}", "{path}");
        }
        assert_eq!(table.parameters(), BTreeSet::from(["name"]));
        let same = refusal(&[("GET", "/a:b"), ("GET", "/a%3Ab")]);
        assert!(same.contains("`GET /a%3Ab` and `GET /a:b`, which are for the same requests"), "{same}");
        let same = refusal(&[("GET", "/a%40/{x}"), ("POST", "/a@/{y}")]);
        assert!(same.contains("is `/a@/{y}`; allowed is the names that `/a@/{x}` has"), "{same}");
        let same = refusal(&[("GET", "/%C3%A9/{x}"), ("GET", "/%C3%A8/{x}"), ("GET", "/%c3%a9/{y}")]);
        assert!(same.contains("is `/é/{y}`; allowed is the names that `/é/{x}` has"), "{same}");
        assert!(refusal(&[("GET", "/a%c0%af")]).contains("allowed is a normal path"));
        assert!(refusal(&[("GET", "/a%C3{x}%A9")]).contains("allowed is a normal path"));
    }

    #[test]
    fn other_spellings_of_a_path_are_not_normal() {
        for (good, meaning) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b.c", "/a/b.c"),
            ("/a%20b", "/a b"),
            ("/caf%C3%A9", "/café"),
            ("/caf%c3%a9", "/café"),
            ("/a/...", "/a/..."),
            ("/a,b=c:d@e", "/a,b=c:d@e"),
            ("/a%2Cb%3dc%3Ad%40e", "/a,b=c:d@e"),
        ] {
            assert_eq!(normal(good).as_deref(), Some(meaning), "{good}");
        }
        for bad in [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/../a",
            "/a/%2e%2e/b",
            "/a%2Fb",
            "/a%2fb",
            "/a%5cb",
            "/a\\b",
            "/a;v=1",
            "/a#b",
            "/a?b",
            "/%61",
            "/a%00",
            "/a%0a",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a b",
            "/café",
            "/a%252e",
            "/a%+1",
            "/a%c0%af",
            "/a%80",
            "/a%C3",
            "/a%ed%a0%80",
        ] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }

    /// The bytes that are left when every escape is dissolved, whatever it stands for.
    fn without_escapes(path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = path.as_bytes();
        while let [first, after @ ..] = rest {
            let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(escaped) if *first == b'%' => {
                    bytes.push(escaped);
                    rest = &after[2..];
                }
                _ => {
                    bytes.push(*first);
                    rest = after;
                }
            }
        }
        bytes
    }

    /// A path without the dots and slashes that a proxy dissolves.
    fn without_dots(path: &str) -> String {
        let mut parts: Vec<&str> = Vec::new();
        let slashed = path.replace('\\', "/");
        for part in slashed.split('/').skip(1) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let end = if slashed.len() > 1 && slashed.ends_with('/') && !parts.is_empty() { "/" } else { "" };
        format!("/{}{end}", parts.join("/"))
    }

    proptest! {
        /// What a normal path means is what is left of it after every dissolving of dots, slashes and escapes that a proxy or a
        /// service does, however often.
        #[test]
        fn normal_paths_mean_themselves(path in "(?:[/.%2eEfF5cC;:@a-c]|%3A|%3a|%40|%2[0-9A-Fa-f]|%C3%A9|%c0%af|%[89]0){0,12}") {
            if let Some(meaning) = normal(&path) {
                let decoded = String::from_utf8(without_escapes(&path));
                prop_assert_eq!(decoded.as_deref(), Ok(&*meaning));
                prop_assert_eq!(without_escapes(&meaning), meaning.as_bytes());
                prop_assert_eq!(without_dots(&meaning), &*meaning);
            }
        }

        /// Whatever of a path is escaped: it is judged as the path is, or not at all.
        #[test]
        fn all_spellings_of_a_path_mean_the_same(
            path in "/[a-c/:@,+=!$&*'()é {}]{0,12}",
            spelled in prop::collection::vec(0..3_u8, 40),
        ) {
            let bytes = path.bytes().zip(spelled);
            let spelling: String = bytes.map(|(byte, how)| match how {
                0 if byte.is_ascii() => char::from(byte).to_string(),
                _ if byte.is_ascii_alphabetic() || byte == b'/' => char::from(byte).to_string(),
                1 => format!("%{byte:02x}"),
                _ => format!("%{byte:02X}"),
            }).collect();
            if let Some(meaning) = normal(&spelling) {
                prop_assert_eq!(&*meaning, path);
            }
        }
    }
}
