//! Which names a certificate covers: RFC 6125 (and 9525), pure functions.
//!
//! Start at [`covers`].

use std::net::IpAddr;

/// Whether one of `names` covers `wanted`: a DNS name, a wildcard, or an IP address. A wildcard stands for exactly one whole
/// left-most label above at least two others; a wildcard asked for needs the same wildcard; an address only fits itself.
pub fn covers(names: &[String], wanted: &str) -> bool {
    let wanted = normal(wanted);
    if let Some(address) = address(&wanted) {
        return names.iter().any(|name| name.parse() == Ok(address));
    }
    let dns = names.iter().filter(|name| name.parse::<IpAddr>().is_err());
    !wanted.is_empty() && dns.into_iter().any(|name| *name == wanted || wildcard_covers(name, &wanted))
}

/// A concrete DNS name that `names` cover: the first that is none of a wildcard, else one made up under a wildcard.
pub(super) fn concrete(names: &[String]) -> Option<String> {
    const MADE_UP: &str = "certsyncd";
    let dns: Vec<&String> = names.iter().filter(|name| name.parse::<IpAddr>().is_err()).collect();
    let plain = dns.iter().find(|name| !name.contains('*')).map(|name| (*name).clone());
    plain.or_else(|| dns.iter().find_map(|name| name.strip_prefix("*.")).map(|parent| format!("{MADE_UP}.{parent}")))
}

/// Lower case, without the root's dot or an address's brackets; letters beyond ASCII as the DNS has them (RFC 5891).
pub(super) fn normal(name: &str) -> String {
    let name = name.trim().trim_end_matches('.');
    if !name.is_ascii() {
        let (prefix, bare) = name.strip_prefix("*.").map_or(("", name), |bare| ("*.", bare));
        if let Ok(url::Host::Domain(ascii)) = url::Host::parse(bare) {
            return format!("{prefix}{ascii}");
        }
    }
    match address(name) {
        Some(address) => address.to_string(),
        None => name.to_lowercase(),
    }
}

fn address(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok()
}

fn wildcard_covers(name: &str, wanted: &str) -> bool {
    let Some(parent) = name.strip_prefix("*.").filter(|parent| parent.contains('.') && !parent.contains('*')) else {
        return false;
    };
    wanted.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && !label.contains('*') && rest == parent)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn coverage_follows_rfc_6125() {
        let table = [
            ("www.example.com", "www.example.com", true),
            ("www.example.com", "WWW.Example.COM.", true),
            ("www.example.com", "example.com", false),
            ("www.example.com", "www.example.com.evil.test", false),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.www.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "*.example.com", true),
            ("www.example.com", "*.example.com", false),
            ("*.example.com", "*.www.example.com", false),
            ("*.example.com", "xn--bcher-kva.example.com", true),
            ("*.com", "example.com", false),
            ("*", "localhost", false),
            ("w*.example.com", "www.example.com", false),
            ("www.*.com", "www.example.com", false),
            ("*.*.example.com", "a.b.example.com", false),
            ("localhost", "localhost", true),
            ("xn--bcher-kva.example", "bücher.example", true),
            ("*.xn--bcher-kva.example", "*.bücher.example", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("*.0.2.1", "192.0.2.1", false),
            ("2001:db8::1", "2001:0DB8:0:0::1", true),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("www.example.com", "", false),
            ("", "", false),
        ];
        for (name, wanted, expected) in table {
            assert_eq!(covers(&names(name), wanted), expected, "`{name}` covers `{wanted}`");
        }
        assert!(covers(&names("a.example.com *.example.com"), "b.example.com"));
        assert!(!covers(&[], "example.com"));
    }

    #[test]
    fn a_concrete_name_is_found_or_made_up() {
        let table = [
            ("*.example.com www.example.com", Some("www.example.com")),
            ("*.example.com", Some("certsyncd.example.com")),
            ("192.0.2.1 www.example.com", Some("www.example.com")),
            ("192.0.2.1 2001:db8::1", None),
            ("", None),
        ];
        for (held, expected) in table {
            assert_eq!(concrete(&names(held)).as_deref(), expected, "{held}");
        }
        let made_up = concrete(&names("*.example.com")).unwrap();
        assert!(covers(&names("*.example.com"), &made_up));
    }
}
