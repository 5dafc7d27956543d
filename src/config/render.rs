//! Settings back into TOML: the effective configuration, every default filled in, secrets masked. Start at [`Settings::render`].
//!
//! What it writes is valid and means the same, save for plain secrets, which become `"[masked]"`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use toml::Value;

use super::secret::Source;
use super::settings::{
    Alerts, Certificate, Channel, ChannelKind, Cloud, Encryption, EventKind, Format, Huawei, HuaweiApi, HuaweiAuth, Language,
    Metrics, Output, Provider, Settings, Severity, Successor, Target, TargetKind, Trust, VerifyAddress, Wanted, WebhookFormat,
};
use super::time::show;

/// What stands for a plain secret.
pub const MASK: &str = "[masked]";

impl Settings {
    /// The effective configuration as TOML: every default filled in, plain secrets masked, other secrets as they were written.
    pub fn render(&self) -> String {
        let mut text = format!("version = {}\n", super::document::VERSION);
        let daemon = &self.daemon;
        let mut lines = Lines::new("[daemon]");
        lines.path("state_dir", &daemon.state_dir);
        lines.text("schedule", &daemon.schedule.expression);
        lines.text("timezone", &daemon.timezone.name);
        lines.text("splay", &show(daemon.splay));
        lines.raw("concurrency", daemon.concurrency);
        text.push_str(&lines.end());
        self.providers.values().for_each(|provider| text.push_str(&render_provider(provider)));
        self.certificates.iter().for_each(|certificate| text.push_str(&render_certificate(certificate)));
        self.targets.values().for_each(|target| text.push_str(&render_target(target)));
        text.push_str(&render_alerts(&self.alerts));
        text.push_str(&render_metrics(&self.metrics));
        text
    }
}

fn render_provider(provider: &Provider) -> String {
    let mut lines = Lines::new(&format!("[providers.{}]", key(&provider.name)));
    match &provider.cloud {
        Cloud::Huawei(huawei) => render_huawei(&mut lines, huawei),
        Cloud::Cds(cds) => {
            lines.text("kind", "cds");
            lines.text("endpoint", cds.endpoint.as_str().trim_end_matches('/'));
            let keys = [("access_key", source(&cds.access_key)), ("secret_key", source(&cds.secret_key))];
            lines.raw("auth", auth("access-key", &keys));
        }
    }
    lines.raw("rate_limit", provider.rate_limit.unwrap_or(0.0));
    lines.optional("ca_file", provider.ca_file.as_deref().map(path));
    lines.end()
}

fn render_huawei(lines: &mut Lines, huawei: &Huawei) {
    lines.text("kind", "huawei-scm");
    lines.optional("region", huawei.region.as_deref().map(quoted));
    lines.text("endpoint", huawei.endpoint.as_str().trim_end_matches('/'));
    lines.text("iam_endpoint", huawei.iam_endpoint.as_str().trim_end_matches('/'));
    lines.text("metadata_endpoint", huawei.metadata_endpoint.as_str().trim_end_matches('/'));
    lines.optional("project_id", huawei.project_id.as_deref().map(quoted));
    lines.optional("domain_id", huawei.domain_id.as_deref().map(quoted));
    lines.optional("enterprise_project_id", huawei.enterprise_project_id.as_deref().map(quoted));
    let api = match huawei.api {
        HuaweiApi::Export => "export",
        HuaweiApi::Download => "download",
    };
    lines.text("api", api);
    lines.raw("auth", render_auth(&huawei.auth));
}

fn render_auth(method: &HuaweiAuth) -> String {
    match method {
        HuaweiAuth::AccessKey { access_key, secret_key, security_token } => {
            let mut keys = vec![("access_key", source(access_key)), ("secret_key", source(secret_key))];
            keys.extend(security_token.iter().map(|token| ("security_token", source(token))));
            auth("access-key", &keys)
        }
        HuaweiAuth::Password { user, password, domain, project } => {
            let mut keys = vec![("user", source(user)), ("password", source(password)), ("domain", quoted(domain))];
            keys.extend(project.iter().map(|project| ("project", quoted(project))));
            auth("password", &keys)
        }
        HuaweiAuth::Token { token } => auth("token", &[("token", source(token))]),
        HuaweiAuth::Metadata => auth("metadata", &[]),
        HuaweiAuth::Environment => auth("environment", &[]),
        HuaweiAuth::Profile { path: file } => {
            let keys: Vec<(&str, String)> = file.iter().map(|file| ("path", path(file))).collect();
            auth("profile", &keys)
        }
    }
}

fn auth(method: &str, keys: &[(&str, String)]) -> String {
    let keys: String = keys.iter().map(|(name, value)| format!(", {name} = {value}")).collect();
    format!("{{ method = {}{keys} }}", quoted(method))
}

fn render_certificate(certificate: &Certificate) -> String {
    let mut lines = Lines::new("[[certificate]]");
    lines.text("name", &certificate.name);
    lines.text("provider", &certificate.provider);
    match &certificate.wanted {
        Wanted::Id(id) => lines.text("id", id),
        Wanted::Domain(domain) => lines.text("domain", domain),
    }
    let successor = match certificate.successor {
        Successor::Adopt => "adopt",
        Successor::Warn => "warn",
        Successor::Ignore => "ignore",
    };
    let trust = match certificate.trust {
        Trust::Public => "public",
        Trust::Any => "any",
    };
    lines.text("successor", successor);
    lines.raw("names", array(certificate.names.iter().map(|name| quoted(name))));
    lines.optional("key_file", certificate.key_file.as_deref().map(path));
    lines.raw("deploy", array(certificate.deploy.iter().map(|name| quoted(name))));
    lines.text("trust", trust);
    lines.raw("placeholder", certificate.placeholder);
    lines.end() + &certificate.outputs.iter().map(render_output).collect::<String>()
}

fn render_output(output: &Output) -> String {
    let format = match output.format {
        Format::Cert => "cert",
        Format::Chain => "chain",
        Format::Fullchain => "fullchain",
        Format::Key => "key",
        Format::Combined => "combined",
        Format::Pkcs12 => "pkcs12",
    };
    let mut lines = Lines::new("[[certificate.output]]");
    lines.text("format", format);
    lines.path("path", &output.path);
    lines.optional("owner", output.owner.as_deref().map(quoted));
    lines.optional("group", output.group.as_deref().map(quoted));
    lines.text("mode", &format!("{:04o}", output.mode));
    lines.optional("password", output.password.as_ref().map(source));
    lines.end()
}

fn render_target(target: &Target) -> String {
    let mut lines = Lines::new(&format!("[deploy.{}]", key(&target.name)));
    let (kind, socket) = match &target.kind {
        TargetKind::Nginx => ("nginx", None),
        TargetKind::Haproxy { socket } => ("haproxy", socket.as_deref()),
        TargetKind::Command => ("command", None),
    };
    lines.text("kind", kind);
    lines.optional("socket", socket.map(path));
    lines.optional("test", target.test.as_ref().map(|words| array(words.iter().map(|word| quoted(word)))));
    lines.raw("reload", array(target.reload.iter().map(|word| quoted(word))));
    lines.raw("verify", array(target.verify.iter().map(verify)));
    lines.text("timeout", &show(target.timeout));
    lines.optional("window", target.window.as_ref().map(|window| quoted(&window.text)));
    lines.text("min_gap", &show(target.min_gap));
    lines.end()
}

fn verify(address: &VerifyAddress) -> String {
    let text = quoted(&address.to_string());
    if address.proxy_protocol { format!("{{ address = {text}, proxy_protocol = true }}") } else { text }
}

fn render_alerts(alerts: &Alerts) -> String {
    let mut lines = Lines::new("[alerts]");
    lines.raw("thresholds", array(alerts.thresholds.iter().map(u32::to_string)));
    lines.text("remind", &show(alerts.remind));
    lines.raw("after_failures", alerts.after_failures);
    lines.optional("heartbeat_url", alerts.heartbeat_url.as_ref().map(source));
    lines.end() + &alerts.channels.iter().map(render_channel).collect::<String>()
}

fn render_channel(channel: &Channel) -> String {
    let mut lines = Lines::new("[[alerts.channel]]");
    lines.text("name", &channel.name);
    render_channel_kind(&mut lines, &channel.kind);
    let severity = match channel.min_severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let language = match channel.language {
        Language::En => "en",
        Language::Zh => "zh",
    };
    lines.text("min_severity", severity);
    lines.raw("events", array(channel.events.iter().copied().map(EventKind::name).map(quoted)));
    lines.raw("certificates", array(channel.certificates.iter().map(|pattern| quoted(pattern))));
    lines.text("language", language);
    lines.text("timeout", &show(channel.timeout));
    lines.end()
}

fn render_channel_kind(lines: &mut Lines, kind: &ChannelKind) {
    match kind {
        ChannelKind::Desktop => lines.text("kind", "desktop"),
        ChannelKind::Webhook { url, format, headers, secret, template } => {
            let format = match format {
                WebhookFormat::Json => "json",
                WebhookFormat::Slack => "slack",
                WebhookFormat::Dingtalk => "dingtalk",
                WebhookFormat::Feishu => "feishu",
                WebhookFormat::Wecom => "wecom",
            };
            lines.text("kind", "webhook");
            lines.raw("url", source(url));
            lines.text("format", format);
            lines.raw("headers", render_headers(headers));
            lines.optional("secret", secret.as_ref().map(source));
            lines.optional("template", template.as_deref().map(quoted));
        }
        ChannelKind::Email { host, port, encryption, username, password, from, to } => {
            let encryption = match encryption {
                Encryption::Starttls => "starttls",
                Encryption::Tls => "tls",
                Encryption::None => "none",
            };
            lines.text("kind", "email");
            lines.text("host", host);
            lines.raw("port", port);
            lines.text("encryption", encryption);
            lines.optional("username", username.as_ref().map(source));
            lines.optional("password", password.as_ref().map(source));
            lines.text("from", from);
            lines.raw("to", array(to.iter().map(|to| quoted(to))));
        }
        ChannelKind::Command { command } => {
            lines.text("kind", "command");
            lines.raw("command", array(command.iter().map(|word| quoted(word))));
        }
    }
}

fn render_headers(headers: &BTreeMap<String, Source>) -> String {
    let pairs: Vec<String> = headers.iter().map(|(name, value)| format!("{} = {}", key(name), source(value))).collect();
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

fn render_metrics(metrics: &Metrics) -> String {
    let mut lines = Lines::new("[metrics]");
    lines.optional("listen", metrics.listen.map(|listen| quoted(&listen.to_string())));
    lines.optional("textfile", metrics.textfile.as_deref().map(path));
    lines.end()
}

/// One table: its head, and its keys with the `=` in one column.
struct Lines {
    head: String,
    pairs: Vec<(&'static str, String)>,
}

impl Lines {
    fn new(head: &str) -> Lines {
        Lines { head: head.to_owned(), pairs: Vec::new() }
    }

    fn text(&mut self, name: &'static str, value: &str) {
        self.raw(name, quoted(value));
    }

    fn path(&mut self, name: &'static str, value: &Path) {
        self.raw(name, path(value));
    }

    fn optional(&mut self, name: &'static str, value: Option<String>) {
        value.into_iter().for_each(|value| self.raw(name, value));
    }

    fn raw(&mut self, name: &'static str, value: impl ToString) {
        self.pairs.push((name, value.to_string()));
    }

    fn end(self) -> String {
        let width = self.pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = format!("\n{}\n", self.head);
        for (name, value) in &self.pairs {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:width$} = {value}");
        }
        text
    }
}

fn source(source: &Source) -> String {
    match source {
        Source::File(file) => format!("{{ file = {} }}", path(file)),
        Source::Env(name) => format!("{{ env = {} }}", quoted(name)),
        Source::Credential(name) => format!("{{ credential = {} }}", quoted(name)),
        Source::Plain(_) => quoted(MASK),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Paths come from TOML and are UTF-8.
fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { name.to_owned() } else { quoted(name) }
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}
