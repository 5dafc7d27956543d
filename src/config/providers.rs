//! `[providers.NAME]`: accounts at clouds. Start at [`all`].
//!
//! Regions and addresses are those of the vendors' pages: Huawei Cloud "SCM endpoints", Capital Online "API endpoints".

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use super::keys;
use super::net::{ENDPOINT, endpoint, metadata_endpoint};
use super::reader::Reader;
use super::settings::{Cds, Cloud, Huawei, HuaweiApi, HuaweiAuth, Provider};
use super::value::{Value, list};
use super::values::{NAME, PATH, Wrong, file_path, id, nearest, quote, table_name};

/// The names of all tables, right or wrong inside, and the providers that are right.
pub(super) fn all(root: &Reader<'_>) -> (BTreeSet<String>, BTreeMap<String, Provider>) {
    let Some(value) = root.take("providers") else { return Default::default() };
    let (mut names, mut providers) = (BTreeSet::new(), BTreeMap::new());
    for named in Reader::names(&value, "[providers.NAME]") {
        check_name(&named.name, &named.value, &named.name_span);
        if let Some(provider) = Reader::open(&named.value, &keys::PROVIDER).and_then(|reader| provider(&reader, &named.name)) {
            providers.insert(named.name.clone(), provider);
        }
        names.insert(named.name);
    }
    (names, providers)
}

/// Refuses a table's name that could not be a label of metrics.
pub(super) fn check_name(name: &str, value: &Value<'_>, span: &std::ops::Range<usize>) {
    if let Err(wrong) = table_name(name) {
        let expected = wrong.expected.unwrap_or_else(|| NAME.to_owned());
        let message = format!("`{}` has the name `{}`, expected {expected}", value.at, quote(name));
        value.sink.problem(&value.at, Some(span.clone()), message, wrong.hint);
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Huawei,
    Cds,
}

fn provider(reader: &Reader<'_>, name: &str) -> Option<Provider> {
    const KINDS: [(&str, Kind); 2] = [("huawei-scm", Kind::Huawei), ("cds", Kind::Cds)];
    let rate_limit = reader.take("rate_limit").and_then(|value| value.number(0.0..=MAX_RATE, RATE)).unwrap_or(RATE_LIMIT);
    let ca_file = reader.take("ca_file").and_then(|value| value.parse(PATH, file_path));
    let kind = reader.need("kind", "`huawei-scm` or `cds`").and_then(|value| Some((value.word(&KINDS)?, value.text("")?)));
    let Some((kind, word)) = kind else {
        survey(reader);
        return None;
    };
    reader.only_for("kind", word);
    let cloud = match kind {
        Kind::Huawei => Cloud::Huawei(huawei(reader)?),
        Kind::Cds => Cloud::Cds(cds(reader)?),
    };
    Some(Provider { name: name.to_owned(), cloud, rate_limit: (rate_limit > 0.0).then_some(rate_limit), ca_file })
}

/// What can be said of a provider whose kind is not known.
fn survey(reader: &Reader<'_>) {
    url(reader, "endpoint", ENDPOINT, endpoint);
    if let Some(auth) = reader.take("auth").and_then(|value| Reader::open(&value, &keys::AUTH)) {
        auth.take("method").and_then(|value| value.word(&METHODS));
        auth.survey();
    }
}

/// An address; one with a user and perhaps a password in it is not shown.
fn url(reader: &Reader<'_>, key: &str, expected: &str, parse: fn(&str) -> Result<Url, Wrong>) -> Option<Url> {
    let value = reader.take(key)?;
    if value.node.get_ref().as_str().is_some_and(|text| text.contains('@')) {
        value.sink.hide(value.span());
    }
    value.parse(expected, parse)
}

const RATE_LIMIT: f64 = 10.0;
const MAX_RATE: f64 = 10_000.0;
const RATE: &str = "requests per second, from 0 (no limit) to 10000";

fn huawei(reader: &Reader<'_>) -> Option<Huawei> {
    let region = reader.take("region").and_then(|value| {
        let region = value.parse("the name of a region such as `cn-north-4`", region)?;
        warn_of_unknown_region(&value, &region);
        Some(region)
    });
    let cloud_id = |key: &str| reader.take(key).and_then(|value| value.parse("letters, digits, `-` and `_`", id));
    let own = url(reader, "endpoint", ENDPOINT, endpoint);
    if own.is_none() && !reader.has("endpoint") && !reader.has("region") {
        need_region(reader, "`cn-north-4`");
    }
    let iam = url(reader, "iam_endpoint", ENDPOINT, endpoint);
    let metadata = url(reader, "metadata_endpoint", "an http or https address", metadata_endpoint);
    let api =
        reader.take("api").and_then(|value| value.word(&[("export", HuaweiApi::Export), ("download", HuaweiApi::Download)]));
    let api = api.unwrap_or(HuaweiApi::Export);
    let (project_id, domain_id) = (cloud_id("project_id"), cloud_id("domain_id"));
    let enterprise_project_id = cloud_id("enterprise_project_id");
    let auth = huawei_auth(reader)?;
    check_project(reader, api, &auth);
    check_iam(reader, &auth);
    Some(Huawei {
        endpoint: own.or_else(|| of_region("scm", region.as_deref()))?,
        iam_endpoint: iam.or_else(|| of_region("iam", region.as_deref()))?,
        metadata_endpoint: metadata.or_else(|| Url::parse(METADATA).ok())?,
        region,
        project_id,
        domain_id,
        enterprise_project_id,
        api,
        auth,
    })
}

/// The address of a service: in its region, else that of the whole cloud.
fn of_region(service: &str, region: Option<&str>) -> Option<Url> {
    let region = region.map(|region| format!("{region}.")).unwrap_or_default();
    Url::parse(&format!("https://{service}.{region}myhuaweicloud.com")).ok()
}

const METADATA: &str = "http://169.254.169.254";

/// Regions in which SCM is documented to answer (one shows the whole account).
const HUAWEI_REGIONS: [&str; 3] = ["cn-north-4", "ap-southeast-1", "my-kualalumpur-1"];

/// The form of a region's name: `cn-north-4`. It becomes part of a host name.
fn region(text: &str) -> Result<String, Wrong> {
    let hint = || nearest(text, HUAWEI_REGIONS.into_iter()).map(|near| format!("did you mean `{near}`?"));
    let parts: Vec<&str> = text.split('-').collect();
    let letters_and_digits =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    let ends = parts.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let fits = starts && ends && parts.len() >= 3 && text.len() <= MAX_REGION && parts.iter().all(letters_and_digits);
    if fits { Ok(text.to_owned()) } else { Err(Wrong::hint(hint())) }
}

const MAX_REGION: usize = 40;

fn warn_of_unknown_region(value: &Value<'_>, region: &str) {
    if HUAWEI_REGIONS.contains(&region) {
        return;
    }
    let message = format!("`{}` is `{region}`; SCM is documented for {}", value.at, list(&HUAWEI_REGIONS));
    let near = nearest(region, HUAWEI_REGIONS.into_iter()).unwrap_or("cn-north-4");
    value.warning(message, Some(format!("one region shows the whole account: `{near}` would do")));
}

fn need_region(reader: &Reader<'_>, example: &str) {
    let message = format!("missing `{}`, expected a region such as {example}, or an `endpoint`", reader.path("region"));
    reader.problem(reader.path("region"), message, None);
}

/// The download call has the project in its path; the environment and the profile can bring it along.
fn check_project(reader: &Reader<'_>, api: HuaweiApi, auth: &HuaweiAuth) {
    let brings_it = matches!(auth, HuaweiAuth::Environment | HuaweiAuth::Profile { .. });
    if api == HuaweiApi::Download && !brings_it && !reader.has("project_id") {
        let at = reader.path("project_id");
        let hint = "the console shows it under \"My Credentials\"; `api = \"export\"` needs none".to_owned();
        reader.problem(&at, format!("missing `{at}`, expected the project's id, which `api = \"download\"` needs"), Some(hint));
    }
}

/// A password must not go to a place nobody chose.
fn check_iam(reader: &Reader<'_>, auth: &HuaweiAuth) {
    let chosen = reader.has("region") || reader.has("iam_endpoint");
    if matches!(auth, HuaweiAuth::Password { .. }) && !chosen && reader.has("endpoint") {
        let at = reader.path("iam_endpoint");
        reader.problem(
            &at,
            format!("missing `{at}`, expected the address of IAM, or a `region`: a password is exchanged there"),
            None,
        );
    }
}

#[derive(Clone, Copy)]
enum Method {
    AccessKey,
    Password,
    Token,
    Metadata,
    Environment,
    Profile,
}

const METHODS: [(&str, Method); 6] = [
    ("access-key", Method::AccessKey),
    ("password", Method::Password),
    ("token", Method::Token),
    ("metadata", Method::Metadata),
    ("environment", Method::Environment),
    ("profile", Method::Profile),
];

fn huawei_auth(reader: &Reader<'_>) -> Option<HuaweiAuth> {
    let (auth, method) = auth(reader, &METHODS)?;
    match method {
        Method::AccessKey => access_key(&auth),
        Method::Password => password(&auth),
        Method::Token => Some(HuaweiAuth::Token { token: auth.need_secret("token")? }),
        Method::Metadata => Some(HuaweiAuth::Metadata),
        Method::Environment => Some(HuaweiAuth::Environment),
        Method::Profile => Some(HuaweiAuth::Profile { path: auth.take("path").and_then(|value| value.parse(PATH, file_path)) }),
    }
}

fn access_key(auth: &Reader<'_>) -> Option<HuaweiAuth> {
    let (access_key, secret_key) = (auth.need_secret("access_key"), auth.need_secret("secret_key"));
    let security_token = auth.secret("security_token");
    Some(HuaweiAuth::AccessKey { access_key: access_key?, secret_key: secret_key?, security_token })
}

fn password(auth: &Reader<'_>) -> Option<HuaweiAuth> {
    let (user, password) = (auth.need_secret("user"), auth.need_secret("password"));
    let domain = auth.need("domain", "the account's name").and_then(|value| value.parse("the account's name", account_name));
    let project = auth.take("project").and_then(|value| value.parse("the project's name", account_name));
    Some(HuaweiAuth::Password { user: user?, password: password?, domain: domain?, project })
}

/// The name of an account or project: any one line of text.
fn account_name(text: &str) -> Result<String, Wrong> {
    let fits = !text.is_empty() && text.chars().count() <= MAX_ACCOUNT_NAME && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

const MAX_ACCOUNT_NAME: usize = 256;

/// The table `auth` and its method; keys of other methods are reported.
fn auth<'d, T: Copy>(reader: &Reader<'d>, methods: &[(&str, T)]) -> Option<(Reader<'d>, T)> {
    let value = reader.need("auth", "who is asking, such as `auth = { method = \"access-key\", … }`")?;
    let auth = Reader::open(&value, &keys::AUTH)?;
    let words: Vec<&str> = methods.iter().map(|(word, _)| *word).collect();
    let method = auth.need("method", &list(&words)).and_then(|value| Some((value.word(methods)?, value.text("")?)));
    let Some((found, word)) = method else {
        auth.survey();
        return None;
    };
    auth.only_for("method", word);
    Some((auth, found))
}

fn cds(reader: &Reader<'_>) -> Option<Cds> {
    let own = url(reader, "endpoint", ENDPOINT, endpoint);
    let region = reader.take("region").and_then(|value| value.word(&CDS_REGIONS));
    if !reader.has("endpoint") && !reader.has("region") {
        need_region(reader, "`cn`, `asia` or `us`");
    }
    let auth = auth(reader, &[("access-key", ())]).map(|(auth, ())| auth)?;
    let (access_key, secret_key) = (auth.need_secret("access_key"), auth.need_secret("secret_key"));
    if let Some(value) = auth.take("security_token") {
        let message = format!("`{}` does not apply to `kind = \"cds\"`, only to `huawei-scm`", value.at);
        value.problem(message, Some("remove it".to_owned()));
    }
    Some(Cds { endpoint: own.or_else(|| Url::parse(region?).ok())?, access_key: access_key?, secret_key: secret_key? })
}

const CDS_REGIONS: [(&str, &str); 3] = [
    ("cn", "https://cdsapi.capitalonline.net"),
    ("asia", "https://cdsapi-asia.capitalonline.net"),
    ("us", "https://cdsapi-us.capitalonline.net"),
];
