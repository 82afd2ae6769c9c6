//! The table of methods and path templates, made once.
//!
//! Only normal paths are judged, by the table or by what Envoy says (RFC 3986, section 6.2.2): whoever serves the request may see
//! another path behind `//`, `/../` or `%2e` than we do, and the rule of the one must not let in what goes to the other.

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
        let mut by_path: BTreeMap<&str, BTreeMap<String, Route>> = BTreeMap::new();
        for route in routes {
            route.check()?;
            if !is_normal(&without_names(&route.path)) {
                return Err(refused(
                    "routes.path",
                    &route.path,
                    "a normal path that begins with `/`, with `{name}` for whole parts",
                ));
            }
            if let Some(other) = by_path.entry(&route.path).or_default().insert(route.method.clone(), route.clone()) {
                return Err(Refused::SameRoute { route: route.title(), other: other.title() });
            }
        }
        let mut table = Self::default();
        for (path, methods) in by_path {
            table.parameters.extend(names(path).map(str::to_owned));
            table.by_template.insert(path, methods).map_err(|error| match error {
                matchit::InsertError::Conflict { with } => Refused::SameRoute { route: path.to_owned(), other: with },
                other => refused("routes.path", path, format!("a template: {other}")),
            })?;
        }
        Ok(table)
    }

    /// The names of all `{…}`.
    pub(crate) fn parameters(&self) -> super::settings::Names<'_> {
        self.parameters.iter().map(String::as_str).collect()
    }

    /// The route of a request; `None` when the table has none.
    pub(crate) fn find<'t, 'p>(&'t self, method: &str, path: &'p str) -> Option<Matched<'t, 'p>> {
        let found = self.by_template.at(path).ok()?;
        let route = found.value.get(method).or_else(|| found.value.get("*"))?;
        Some(Matched { route, parameters: found.params })
    }
}

/// The names in a template, without the star of a rest.
fn names(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.trim_start_matches('*'))
}

/// The template with a letter for each `{…}`.
fn without_names(template: &str) -> String {
    let mut plain = String::with_capacity(template.len());
    let mut inside = false;
    for letter in template.chars() {
        match letter {
            '{' if !inside => inside = true,
            '}' if inside => {
                inside = false;
                plain.push('x');
            }
            _ if inside => {}
            _ => plain.push(letter),
        }
    }
    plain
}

/// Whether nobody who routes requests can take this path, without its query, for another one: absolute, no empty part but the
/// last, no `.` or `..`, no `;`, `\` or fragment, nothing beyond ASCII, and no escape of what need not be escaped or is a
/// separator.
pub(crate) fn is_normal(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut parts = rest.split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        if (part.is_empty() && !is_last) || part == "." || part == ".." {
            return false;
        }
    }
    let bytes = path.as_bytes();
    let mut place = 0;
    while let Some(&byte) = bytes.get(place) {
        match byte {
            b'%' => {
                let digits = bytes.get(place + 1..place + 3).and_then(|digits| str::from_utf8(digits).ok());
                let escaped = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(escaped) if may_be_escaped(escaped) => place += 3,
                    _ => return false,
                }
            }
            b'\\' | b';' | b'#' | b'?' | 0..=b' ' | 0x7f.. => return false,
            _ => place += 1,
        }
    }
    true
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
        assert!(refusal(&[("GET", "/a/{x}"), ("POST", "/a/{y}")]).contains("which are for the same requests"));
        assert!(refusal(&[("GET", "a")]).contains("`ext_authz.routes.path` is `a`; allowed is a normal path"));
        assert!(refusal(&[("GET", "/a//b")]).contains("allowed is a normal path"));
        assert!(
            refusal(&[("get", "/a")]).contains("`ext_authz.routes.method` is `get`; allowed is `*`, or a method in capitals")
        );
        assert!(refusal(&[("GET", "/a/{x")]).contains("`ext_authz.routes.path`"));
    }

    #[test]
    fn other_spellings_of_a_path_are_not_normal() {
        for good in ["/", "/a", "/a/", "/a/b.c", "/a%20b", "/caf%C3%A9", "/a/...", "/a,b=c:d@e"] {
            assert!(is_normal(good), "{good}");
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
        ] {
            assert!(!is_normal(bad), "{bad}");
        }
    }

    proptest! {
        /// A normal path is what is left of it after every dissolving of dots, slashes and escapes that a proxy does.
        #[test]
        fn normal_paths_mean_themselves(path in "[/.%2eEfF5cC;a-c]{0,12}") {
            let decoded = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/").replace("%5c", "\\").replace("%5C", "\\");
            let mut parts: Vec<&str> = Vec::new();
            let slashed = decoded.replace('\\', "/");
            for part in slashed.split('/').skip(1) {
                match part {
                    "" | "." => {}
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            let dissolved = format!("/{}{}", parts.join("/"), if slashed.len() > 1 && slashed.ends_with('/') && !parts.is_empty() { "/" } else { "" });
            if is_normal(&path) {
                prop_assert_eq!(dissolved, path);
            }
        }
    }
}
