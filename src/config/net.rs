//! Text into what the network needs: addresses to look at, endpoints of clouds, names of certificates.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use url::{Host, Url};

use super::settings::VerifyAddress;
use super::values::{Wrong, quote};

/// What an address must be.
pub(super) const ADDRESS: &str = "`host:port`, such as `127.0.0.1:443` or `[::1]:443`";
/// What a listener's address must be.
pub(super) const LISTEN: &str = "an IP address and a port, such as `127.0.0.1:9632` or `[::1]:9632`";
/// What an endpoint must be.
pub(super) const ENDPOINT: &str = "an address such as `https://example.com`; plain http only to a loopback address";
/// What a webhook's address must be.
pub(super) const HOOK: &str = "an https address, or http to a loopback address";
/// What a name of a certificate must be.
pub(super) const DNS_NAME: &str = "a DNS name such as `www.example.com` or `*.example.com`";

/// Longest DNS name, in bytes (RFC 1035).
pub(super) const MAX_DNS_NAME: usize = 253;
/// Longest label of a DNS name, in bytes (RFC 1035).
pub(super) const MAX_LABEL: usize = 63;
/// Longest URL, in bytes.
pub(super) const MAX_URL: usize = 2048;

/// `127.0.0.1:443`, `[::1]:443`, `web-1.example.com:8443`.
pub(super) fn address(text: &str) -> Result<VerifyAddress, Wrong> {
    if text.parse::<IpAddr>().is_ok() {
        let host = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
        return Err(Wrong::new().with_hint(format!("`{host}:443` would do")));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| missing_port(text))?;
    let port = self::port(port).ok_or_else(|| Wrong::expected(format!("{ADDRESS}, with a port from 1 to 65535")))?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().map_err(|_| Wrong::new())?.to_string(),
        None if host.contains(':') => return Err(Wrong::new().with_hint("an IPv6 address goes into brackets: `[::1]:443`")),
        None => host_name(host)?,
    };
    Ok(VerifyAddress { host, port, proxy_protocol: false })
}

fn missing_port(text: &str) -> Wrong {
    Wrong::hint(dns_name(text).is_ok().then(|| format!("`{}:443` would do", quote(text))))
}

/// A port as digits alone (`str::parse` takes a `+`).
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?.filter(|port| *port != 0)
}

/// A host's name or IPv4 address.
pub(super) fn host_name(text: &str) -> Result<String, Wrong> {
    match text.parse::<std::net::Ipv4Addr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => dns_name(text).ok().filter(|name| !name.contains('*')).ok_or_else(Wrong::new),
    }
}

/// A mail server: a name, or an IP address without brackets.
pub(super) fn mail_host(text: &str) -> Result<String, Wrong> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(ip.to_string()),
        Err(_) => host_name(text),
    }
}

/// Where a listener listens; a port of 0 lets the system choose.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let local = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'));
        Wrong::hint(local.and_then(port).map(|port| format!("`127.0.0.1:{port}` would do")))
    })
}

/// Where a cloud answers: https anywhere, http to a loopback address. The path keeps no trailing slash.
pub(super) fn endpoint(text: &str) -> Result<Url, Wrong> {
    let url = web_address(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(Wrong::new().with_hint("use https: a certificate's key must not travel in the clear"));
    }
    base(url)
}

/// Where the host's metadata service answers: link-local by its nature, so http is allowed anywhere.
pub(super) fn metadata_endpoint(text: &str) -> Result<Url, Wrong> {
    base(web_address(text)?)
}

/// Where events are posted: https, or http to a loopback address; a query is allowed. Never shown.
pub(super) fn hook(text: &str) -> Result<Url, Wrong> {
    let url = web_address(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(Wrong::new().with_hint("use https: the address is a secret, and so is what it is told"));
    }
    Ok(url)
}

fn web_address(text: &str) -> Result<Url, Wrong> {
    if text.len() > MAX_URL {
        return Err(Wrong::expected(format!("an address of at most {MAX_URL} bytes")));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Wrong::expected("an address without spaces and line breaks"));
    }
    let url =
        Url::parse(text).map_err(|_| Wrong::hint((!text.contains("://")).then(|| "start it with `https://`".to_owned())))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Wrong::new());
    }
    Ok(url)
}

fn base(mut url: Url) -> Result<Url, Wrong> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::expected("an address without a user or a password").with_hint("credentials belong into `auth`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Wrong::expected("an address without `?` and `#`"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Whether the address is this host itself: `127.0.0.0/8`, `::1`, `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A DNS name in lower case and A-labels (RFC 5890); `*` only as the whole left-most label (RFC 6125).
pub(super) fn dns_name(text: &str) -> Result<String, Wrong> {
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(Wrong::expected("a DNS name, not an IP address"));
    }
    if let Some(name) = text.strip_suffix('.').filter(|name| !name.is_empty()) {
        return Err(Wrong::new().with_hint(format!("leave the last dot out: `{}`", quote(name))));
    }
    let (star, rest) = match text.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", text),
    };
    if rest.contains('*') {
        return Err(Wrong::expected("a DNS name with `*` only as its whole first label"));
    }
    if text.contains("://") || text.contains('/') {
        return Err(Wrong::new().with_hint("the name alone, without scheme and path"));
    }
    // `Host::parse` would decode percent signs and accept more than names.
    let plain =
        rest.len() <= 4 * MAX_DNS_NAME && !rest.contains(|c: char| c == '%' || c == ':' || c.is_whitespace() || c.is_control());
    let Some(Host::Domain(name)) = plain.then(|| Host::parse(rest).ok()).flatten() else { return Err(Wrong::new()) };
    let name = format!("{star}{name}");
    let fits = name.len() <= MAX_DNS_NAME && name.split('.').skip(usize::from(!star.is_empty())).all(is_label);
    if fits { Ok(name) } else { Err(Wrong::new()) }
}

/// Letters, digits, hyphens inside; underscores, since certificates of internal hosts have them.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl FromStr for VerifyAddress {
    type Err = String;

    /// As in `deploy.NAME.verify`, without a PROXY header; the error says what was expected.
    fn from_str(text: &str) -> Result<VerifyAddress, String> {
        address(text).map_err(|wrong| wrong.sentence(ADDRESS))
    }
}

/// An endpoint found elsewhere than in the configuration (the vendor's `credentials` file): https, or http to a loopback address.
///
/// The error says what was expected and never shows the text.
pub fn endpoint_url(text: &str) -> Result<Url, String> {
    endpoint(text).map_err(|wrong| wrong.sentence(ENDPOINT))
}

/// A webhook's address as it came out of its secret: https, or http to a loopback address.
///
/// The error says what was expected and never shows the text, which is a secret.
pub fn hook_url(text: &str) -> Result<Url, String> {
    hook(text).map_err(|wrong| wrong.sentence(HOOK))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("127.0.0.1:443", "127.0.0.1", 443),
            ("[::1]:443", "::1", 443),
            ("[0:0:0:0:0:0:0:1]:1", "::1", 1),
            ("Web-1.Example.com:65535", "web-1.example.com", 65535),
            ("localhost:8443", "localhost", 8443),
        ] {
            let read = address(text).unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port), "{text}");
            assert_eq!(address(&read.to_string()), Ok(read));
        }
        for bad in [
            "",
            ":443",
            "127.0.0.1",
            "::1",
            "::1:443",
            "a:0",
            "a:65536",
            "a:+1",
            "a:",
            "[::1]",
            "[::1%eth0]:443",
            "*.a:443",
            "a b:443",
            "https://a:443",
            "[127.0.0.1]:443",
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
        assert_eq!(address("::1").unwrap_err().hint.unwrap(), "`[::1]:443` would do");
        assert_eq!(address("localhost").unwrap_err().hint.unwrap(), "`localhost:443` would do");
    }

    #[test]
    fn endpoints() {
        for (text, url) in [
            ("https://scm.cn-north-4.myhuaweicloud.com", "https://scm.cn-north-4.myhuaweicloud.com/"),
            ("https://proxy.example/scm/", "https://proxy.example/scm"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://127.8.9.1", "http://127.8.9.1/"),
            ("http://[::1]:8080/", "http://[::1]:8080/"),
            ("http://localhost:1", "http://localhost:1/"),
        ] {
            assert_eq!(endpoint(text).unwrap().as_str(), url, "{text}");
        }
        for bad in [
            "",
            "scm.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://169.254.169.254",
            "ftp://localhost",
            "https://",
            "https://u:p@a",
            "https://a?b",
            "https://a#b",
            "https://a b",
            "https:///etc",
            "file:///etc/passwd",
        ] {
            let read = endpoint(bad);
            assert!(read.is_err() || bad == "https:///etc", "{bad:?}: {read:?}");
        }
        assert!(metadata_endpoint("http://169.254.169.254").is_ok() && metadata_endpoint("http://10.0.0.1/").is_ok());
        assert!(hook("https://oapi.example/robot/send?access_token=x").is_ok() && hook("http://example.com/").is_err());
        let long = |length: usize| format!("https://a/{}", "x".repeat(length - 10));
        assert!(endpoint(&long(MAX_URL)).is_ok() && endpoint(&long(MAX_URL + 1)).is_err());
    }

    #[test]
    fn names_of_certificates() {
        for (text, name) in [
            ("WWW.Example.com", "www.example.com"),
            ("*.example.com", "*.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.中国.example", "*.xn--fiqs8s.example"),
            ("localhost", "localhost"),
            ("_dmarc.example.com", "_dmarc.example.com"),
        ] {
            assert_eq!(dns_name(text).as_deref(), Ok(name), "{text}");
        }
        let label = "x".repeat(MAX_LABEL);
        let long = [label.as_str(), &label, &label, &"x".repeat(MAX_DNS_NAME - 3 * 64)].join(".");
        assert!(dns_name(&label).is_ok() && dns_name(&format!("{label}x.com")).is_err());
        assert!(long.len() == MAX_DNS_NAME && dns_name(&long).is_ok() && dns_name(&format!("{long}x")).is_err());
        for bad in [
            "",
            ".",
            "*",
            "*.",
            "a.",
            "a..b",
            ".a",
            "-a.com",
            "a-.com",
            "a.*.com",
            "w*.example.com",
            "*.*.com",
            "10.0.0.1",
            "::1",
            "[::1]",
            "a b",
            "a%2eb",
            "a/b",
            "https://a",
            "a:443",
            "0x7f.1",
            "a\nb",
        ] {
            assert!(dns_name(bad).is_err(), "{bad:?}: {:?}", dns_name(bad));
        }
    }

    #[test]
    fn listeners() {
        assert!(listen("127.0.0.1:9632").is_ok() && listen("[::1]:9632").is_ok() && listen("0.0.0.0:0").is_ok());
        assert_eq!(listen("localhost:9632").unwrap_err().hint.unwrap(), "`127.0.0.1:9632` would do");
        assert_eq!(listen(":9632").unwrap_err().hint.unwrap(), "`127.0.0.1:9632` would do");
        assert!(listen("9632").is_err() && listen("").is_err());
    }
}
