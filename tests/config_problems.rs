//! What people are told of a configuration that is not valid: word for word, all of it at once, each thing at its place.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use certsyncd::config::{self, Problem, Refused, Settings};

/// Everything a test of one table needs of the others.
const BASE: &str = r#"
version = 1
[providers.scm]
kind = "huawei-scm"
region = "cn-north-4"
auth = { method = "metadata" }
[deploy.web]
kind = "nginx"
verify = ["127.0.0.1:443"]
[[certificate]]
name = "a"
provider = "scm"
id = "scs1"
deploy = ["web"]
"#;

#[test]
fn it_looks_like_this() {
    let text = "version = 1\n\n[daemon]\nshedule = \"0 0 3 * * *\"\nsplay = 60 # seconds\n";
    let expected = "\
error: unknown key `shedule` in [daemon]
 --> config.toml:4:1
  |
4 | shedule = \"0 0 3 * * *\"
  | ^^^^^^^
  |
  = hint: did you mean `schedule`?

error: `daemon.splay` is the number 60, expected a duration such as `90s`, `10m`, `24h`, `7d`
 --> config.toml:5:9
  |
5 | splay = 60
  |         ^^
  |
  = hint: put it in quotes: `\"60s\"`
";
    let refused = refused(text);
    assert_eq!(refused.render(false), expected);
    assert!(refused.render(true).contains("\u{1b}["));
    assert_eq!(
        refused.to_string(),
        "failed to accept configuration `config.toml`: unknown key `shedule` in [daemon] (and 1 more)"
    );
}

#[test]
fn all_errors_of_syntax_come_at_once() {
    let found = told("version = 1\n[daemon]\nsplay = 60s\n[metrics\n[[certificate]]\nname = \"a\"\nname = \"b\"\n");
    assert_eq!(
        found,
        [
            "not valid TOML: string values must be quoted, expected literal string | put the value in double quotes",
            "not valid TOML: unclosed table, expected `]`",
            "duplicate key `name` | keep one of them; entries of the inventory are `[[certificate]]`, in double brackets",
        ]
    );
}

#[test]
fn the_top_level() {
    for (text, expected) in [
        ("", "missing `version`, expected `version = 1` | begin the file with `version = 1`"),
        (
            "version = 2",
            "`version` is the number 2, expected the number 1 | this certsyncd reads version 1; a newer file needs a newer certsyncd",
        ),
        ("version = \"1\"", "`version` is `1`, expected the number 1 | write the number without quotes"),
        (
            "version = 1\n[foo]",
            "unknown key `foo` at the top level | known keys: version, daemon, providers, certificate, deploy, alerts, metrics",
        ),
        ("version = 1\nschedule = \"@daily\"", "unknown key `schedule` at the top level | `schedule` belongs to [daemon]"),
        (
            "version = 1\n[certificate]",
            "`certificate` is a table, expected entries, each headed `[[certificate]]` | head it with double brackets, `[[…]]`",
        ),
        ("version = 1\n[[daemon]]", "`daemon` is an array, expected a table, [daemon] | write it as a single table, [daemon]"),
        ("version = 1\nproviders = 1", "`providers` is the number 1, expected tables, [providers.NAME] each"),
    ] {
        assert_eq!(told(text), [expected]);
    }
}

#[test]
fn the_daemon() {
    for (line, expected) in [
        ("state_dir = \"state\"", "`daemon.state_dir` is `state`, expected an absolute path | start it with `/`"),
        (
            "state_dir = \"/var\"",
            "`daemon.state_dir` is `/var`, expected a folder of certsyncd's own, such as `/var/lib/certsyncd`",
        ),
        ("splay = \"25h\"", "`daemon.splay` is `25h`, expected a duration from 0s to 1d"),
        (
            "splay = \"60\"",
            "`daemon.splay` is `60`, expected a duration such as `90s`, `10m`, `24h`, `7d` | `60s` would be seconds",
        ),
        ("concurrency = 0", "`daemon.concurrency` is the number 0, expected a whole number from 1 to 256"),
        ("concurrency = 257", "`daemon.concurrency` is the number 257, expected a whole number from 1 to 256"),
        (
            "concurrency = \"8\"",
            "`daemon.concurrency` is `8`, expected a whole number from 1 to 256 | write the number without quotes",
        ),
        (
            "timezone = \"Asia/Shangai\"",
            "`daemon.timezone` is `Asia/Shangai`, expected `local`, `UTC` or an IANA name such as `Asia/Shanghai` | did you mean `Asia/Shanghai`?",
        ),
        (
            "schedule = \"0 0 3 * *  * 2030\"",
            "`daemon.schedule` is `0 0 3 * *  * 2030`, expected a cron expression of six fields: second minute hour day month weekday; found 7",
        ),
        (
            "schedule = \"0 60 * * * *\"",
            "`daemon.schedule` is `0 60 * * * *`, expected a cron expression of six fields: second minute hour day month weekday | number out of bounds",
        ),
        (
            "schedule = \"0 0 0 30 2 *\"",
            "`daemon.schedule` is `0 0 0 30 2 *`, expected a cron expression that matches some day | no day of the calendar fits all its fields",
        ),
    ] {
        assert_eq!(told(&format!("version = 1\n[daemon]\n{line}\n")), [expected]);
    }
}

#[test]
fn providers() {
    const KEYS: &str = "auth = { method = \"access-key\", access_key = { env = \"AK\" }, secret_key = { env = \"SK\" } }";
    for (lines, expected) in [
        ("region = \"cn\"", vec!["missing `providers.x.kind`, expected `huawei-scm` or `cds` | add `kind = …` to [providers.x]"]),
        (
            "kind = \"huawei\"",
            vec!["`providers.x.kind` is `huawei`, expected `huawei-scm` or `cds` | did you mean `huawei-scm`?"],
        ),
        (
            "kind = \"cds\"",
            vec!["missing `providers.x.region`, expected a region such as `cn`, `asia` or `us`, or an `endpoint`"],
        ),
        ("kind = \"cds\"\nregion = \"eu\"", vec!["`providers.x.region` is `eu`, expected `cn`, `asia` or `us`"]),
        (
            "kind = \"cds\"\nregion = \"cn\"\nproject_id = \"1\"",
            vec!["`providers.x.project_id` does not apply to `kind = \"cds\"`, only to `huawei-scm` | remove it"],
        ),
        ("kind = \"huawei-scm\"", vec!["missing `providers.x.region`, expected a region such as `cn-north-4`, or an `endpoint`"]),
        (
            "kind = \"huawei-scm\"\nregion = \"Beijing\"",
            vec!["`providers.x.region` is `Beijing`, expected the name of a region such as `cn-north-4`"],
        ),
        (
            "kind = \"huawei-scm\"\nregion = \"cn-north-4\"\napi = \"download\"",
            vec![
                "missing `providers.x.project_id`, expected the project's id, which `api = \"download\"` needs | the console shows it under \"My Credentials\"; `api = \"export\"` needs none",
            ],
        ),
        (
            "kind = \"huawei-scm\"\nendpoint = \"http://10.0.0.1\"",
            vec![
                "`providers.x.endpoint` is `http://10.0.0.1`, expected an address such as `https://example.com`; plain http only to a loopback address | use https: a certificate's key must not travel in the clear",
            ],
        ),
        (
            "kind = \"cds\"\nendpoint = \"https://hunter2:hunter2@a.example\"",
            vec![
                "`providers.x.endpoint` is a string, expected an address without a user or a password | credentials belong into `auth`",
            ],
        ),
        (
            "kind = \"cds\"\nregion = \"cn\"\nrate_limit = -1",
            vec!["`providers.x.rate_limit` is the number -1, expected requests per second, from 0 (no limit) to 10000"],
        ),
        (
            "kind = \"cds\"\nregion = \"cn\"\nrate_limit = nan",
            vec!["`providers.x.rate_limit` is the number nan, expected requests per second, from 0 (no limit) to 10000"],
        ),
    ] {
        assert_eq!(told(&format!("version = 1\n[providers.x]\n{KEYS}\n{lines}\n")), expected);
    }
}

#[test]
fn who_is_asking() {
    const SECRET: &str = "expected a secret: `{ file = … }`, `{ env = … }`, `{ credential = … }` or a plain string";
    let add = |key: &str| format!("missing `providers.x.auth.{key}`, {SECRET} | add `{key} = …` to `providers.x.auth`");
    let words = "expected `access-key`, `password`, `token`, `metadata`, `environment` or `profile`";
    for (auth, expected) in [
        ("auth = { method = \"access-key\" }", vec![add("access_key"), add("secret_key")]),
        ("auth = { method = \"token\", token = \"\" }", vec![format!("`providers.x.auth.token` is empty, {SECRET}")]),
        ("auth = { method = \"token\", token = 17 }", vec![format!("`providers.x.auth.token` is an integer, {SECRET} | put it in quotes")]),
        ("auth = { method = \"token\", token = \"a\\nb\" }", vec![format!("`providers.x.auth.token` holds a line break, {SECRET}")]),
        ("auth = { method = \"token\", token = {} }", vec!["`providers.x.auth.token` has none, expected exactly one of `file`, `env` or `credential`".to_owned()]),
        ("auth = { method = \"token\", token = { file = \"/a\", env = \"A\" } }", vec!["`providers.x.auth.token` has `file` or `env`, expected exactly one of `file`, `env` or `credential`".to_owned()]),
        ("auth = { method = \"token\", token = { env = \"$A\" } }", vec!["`providers.x.auth.token.env` is `$A`, expected the name of an environment variable | without the dollar sign: `A`".to_owned()]),
        ("auth = { method = \"token\", token = { credential = \"../a\" } }", vec!["`providers.x.auth.token.credential` is `../a`, expected the name of a systemd credential, without `/`".to_owned()]),
        ("auth = { method = \"metadata\", token = \"hunter2\" }", vec!["`providers.x.auth.token` does not apply to `method = \"metadata\"`, only to `token` | remove it".to_owned()]),
        ("auth = { method = \"pasword\", pasword = \"hunter2\" }", vec![format!("`providers.x.auth.method` is `pasword`, {words} | did you mean `password`?"), "unknown key `pasword` in `providers.x.auth` | did you mean `password`?".to_owned()]),
        ("auth = \"hunter2\"", vec!["`providers.x.auth` is a string, expected a table, auth = { … }".to_owned()]),
        ("", vec!["missing `providers.x.auth`, expected who is asking, such as `auth = { method = \"access-key\", … }` | add `auth = …` to [providers.x]".to_owned()]),
    ] {
        let text = format!("version = 1\n[providers.x]\nkind = \"huawei-scm\"\nregion = \"cn-north-4\"\n{auth}\n");
        assert_eq!(told(&text), expected);
    }
    let password = "auth = { method = \"password\", user = \"u\", password = \"p\", domain = \"d\" }";
    let text = format!("version = 1\n[providers.x]\nkind = \"huawei-scm\"\nendpoint = \"https://scm.example.com\"\n{password}\n");
    assert_eq!(
        told(&text),
        ["missing `providers.x.iam_endpoint`, expected the address of IAM, or a `region`: a password is exchanged there"]
    );
}

#[test]
fn the_inventory() {
    for (lines, expected) in [
        (
            "",
            vec![
                "missing `certificate[1].name`, expected letters, digits, `.`, `-`, `_`, starting with a letter or digit | add `name = …` to [[certificate]]",
                "missing `certificate[1].provider`, expected the name of a `[providers.NAME]` | add `provider = …` to [[certificate]]",
                "missing `certificate[1].id` or `domain`, expected one of them | `certsyncd list` shows the ids of an account",
            ],
        ),
        (
            "name = \"a\"\nprovider = \"scm\"\nid = \"1\"",
            vec![
                "`certificate[1].name` is `a`, which is the name of `certificate[0]` already | every entry has a name of its own",
            ],
        ),
        (
            "name = \"../b\"\nprovider = \"scn\"\nid = \"a/b\"",
            vec![
                "`certificate[1].name` is `../b`, expected letters, digits, `.`, `-`, `_`, starting with a letter or digit",
                "`certificate[1].provider` is `scn`, but there is no `[providers.scn]` | did you mean `scm`?",
                "`certificate[1].id` is `a/b`, expected a certificate's id: letters, digits, `-` and `_`",
            ],
        ),
        (
            "name = \"*.b.example\"\nprovider = \"scm\"\nid = \"1\"",
            vec![
                "`certificate[1].name` is `*.b.example`, expected letters, digits, `.`, `-`, `_`, starting with a letter or digit | `wildcard.b.example` would do: the name is only a folder's",
            ],
        ),
        (
            "name = \"b\"\nprovider = \"scm\"\nid = \"1\"\ndomain = \"b\"",
            vec![
                "`certificate[1]` has both `id` and `domain`, expected one of them | keep `id` for one certain certificate, `domain` for the newest that covers a name",
            ],
        ),
        (
            "name = \"b\"\nprovider = \"scm\"\ndomain = \"https://b.example\"",
            vec![
                "`certificate[1].domain` is `https://b.example`, expected a DNS name such as `www.example.com` or `*.example.com` | the name alone, without scheme and path",
            ],
        ),
        (
            "name = \"b\"\nprovider = \"scm\"\nid = \"1\"\nnames = [\"w*.b\", \"10.0.0.1\", \"B.example\", \"b.example\"]",
            vec![
                "`certificate[1].names[0]` is `w*.b`, expected a DNS name with `*` only as its whole first label",
                "`certificate[1].names[1]` is `10.0.0.1`, expected a DNS name, not an IP address",
                "`certificate[1].names[3]` is there twice | remove one of them",
            ],
        ),
        (
            "name = \"b\"\nprovider = \"scm\"\nid = \"1\"\nsuccessor = \"never\"\nplaceholder = \"yes\"",
            vec![
                "`certificate[1].successor` is `never`, expected `adopt`, `warn` or `ignore`",
                "`certificate[1].placeholder` is `yes`, expected `true` or `false`",
            ],
        ),
        (
            "name = \"b\"\nprovider = \"scm\"\nid = \"1\"\ndeploy = \"web\"",
            vec![
                "`certificate[1].deploy` is `web`, expected a list of names of `[deploy.NAME]` | put it in brackets: `[\"web\"]`",
            ],
        ),
        (
            "name = \"b\"\nprovider = \"scm\"\nid = \"1\"\ndeploy = [\"wbe\"]",
            vec!["`certificate[1].deploy[0]` is `wbe`, but there is no `[deploy.wbe]` | did you mean `web`?"],
        ),
        (
            "name = \"b\"\nprovider = \"scm\"\nid = \"1\"\ndeploy = [\"haproxy\"]",
            vec!["`certificate[1].deploy[0]` is `haproxy`, but there is no `[deploy.haproxy]` | there are: web"],
        ),
    ] {
        assert_eq!(told(&format!("{BASE}[[certificate]]\n{lines}\n")), expected);
    }
}

#[test]
fn a_table_that_is_wrong_inside_is_still_there_for_others() {
    let text = BASE.replace("region = \"cn-north-4\"", "region = 1").replace("verify = [\"127.0.0.1:443\"]", "verify = 1");
    assert_eq!(
        told(&text),
        [
            "`providers.scm.region` is the number 1, expected the name of a region such as `cn-north-4` | put it in quotes: `\"1\"`",
            "`deploy.web.verify` is the number 1, expected a list of addresses | put it in brackets: `[1]`",
        ]
    );
}

#[test]
fn outputs() {
    for (lines, expected) in [
        (
            "format = \"pem\"",
            vec![
                "missing `certificate[0].output[0].path`, expected an absolute path | add `path = …` to [[certificate.output]]",
                "`certificate[0].output[0].format` is `pem`, expected `cert`, `chain`, `fullchain`, `key`, `combined` or `pkcs12`",
            ],
        ),
        (
            "format = \"key\"\npath = \"/etc/a.key\"\nmode = \"0644\"",
            vec![
                "`certificate[0].output[0].mode` is `0644`, expected a mode without rights for others: the file holds the private key | `mode = \"0640\"` with the service's `group` would do",
            ],
        ),
        (
            "format = \"cert\"\npath = \"/etc/a.pem\"\nmode = 640",
            vec![
                "`certificate[0].output[0].mode` is the number 640, expected permissions in octal, in quotes, such as `\"0640\"` | put it in quotes: `\"0640\"`",
            ],
        ),
        (
            "format = \"cert\"\npath = \"/etc/a.pem\"\nmode = \"1644\"",
            vec!["`certificate[0].output[0].mode` is `1644`, expected permissions in octal, in quotes, such as `\"0640\"`"],
        ),
        (
            "format = \"cert\"\npath = \"/var/lib/certsyncd//live/a/x.pem\"",
            vec![
                "`certificate[0].output[0].path` is `/var/lib/certsyncd//live/a/x.pem`, expected a path outside `daemon.state_dir` | the standard files are there already, under `live/`; copies belong elsewhere",
            ],
        ),
        (
            "format = \"cert\"\npath = \"/etc/ssl/\"",
            vec!["`certificate[0].output[0].path` is `/etc/ssl/`, expected the path of a file"],
        ),
        (
            "format = \"cert\"\npath = \"/etc/a.pem\"\n[[certificate.output]]\nformat = \"key\"\npath = \"/etc/./a.pem\"",
            vec!["`certificate[0].output[1].path` is `/etc/a.pem`, which `certificate[0].output[0].path` writes already"],
        ),
        (
            "format = \"pkcs12\"\npath = \"/etc/a.p12\"",
            vec![
                "missing `certificate[0].output[0].password`, expected a secret: `{ file = … }`, `{ env = … }`, `{ credential = … }` or a plain string | add `password = …` to [[certificate.output]]",
            ],
        ),
        (
            "format = \"cert\"\npath = \"/etc/a.pem\"\npassword = \"hunter2\"",
            vec!["`certificate[0].output[0].password` does not apply to `format = \"cert\"`, only to `pkcs12` | remove it"],
        ),
        (
            "format = \"cert\"\npath = \"/etc/a.pem\"\nowner = \"-x\"",
            vec!["`certificate[0].output[0].owner` is `-x`, expected the name or number of an account of this host"],
        ),
        (
            "format = \"cert\"\npath = \"/etc/a.pem\"\ndeploy = [\"web\"]",
            vec!["unknown key `deploy` in [[certificate.output]] | `deploy` belongs to [[certificate]]"],
        ),
    ] {
        assert_eq!(told(&format!("{BASE}[[certificate.output]]\n{lines}\n")), expected);
    }
    let text = format!("{BASE}key_file = \"/etc/own.key\"\n[[certificate.output]]\nformat = \"key\"\npath = \"/etc/own.key\"\n");
    assert_eq!(
        told(&text),
        [
            "`certificate[0].output[0].path` is `/etc/own.key`, expected another path than a `key_file`, which would be overwritten"
        ]
    );
}

#[test]
fn targets() {
    const ARGV: &str = "expected an argument vector such as `[\"systemctl\", \"reload\", \"nginx.service\"]`";
    let both = |first: &str, second: &str| vec![first.to_owned(), second.to_owned()];
    for (lines, expected) in [
        ("kind = \"apache\"", vec!["`deploy.x.kind` is `apache`, expected `nginx`, `haproxy` or `command`".to_owned()]),
        ("kind = \"command\"", vec!["missing `deploy.x.reload`, expected an argument vector such as `[\"systemctl\", \"reload\", \"postfix.service\"]` | add `reload = …` to [deploy.x]".to_owned()]),
        ("kind = \"nginx\"\nsocket = \"/run/a.sock\"", vec!["`deploy.x.socket` does not apply to `kind = \"nginx\"`, only to `haproxy` | remove it".to_owned()]),
        ("kind = \"nginx\"\nreload = []", vec![format!("`deploy.x.reload` is an empty array, {ARGV}")]),
        ("kind = \"nginx\"\nreload = \"nginx -s reload\"", vec![format!("`deploy.x.reload` is `nginx -s reload`, {ARGV} | no shell takes it apart; write `[\"nginx\", \"-s\", \"reload\"]`")]),
        ("kind = \"nginx\"\ntest = [\"./try\"]", vec!["`deploy.x.test` starts with `./try`, expected a program | the program alone, by its name or its absolute path; each argument is an element of its own".to_owned()]),
        ("kind = \"nginx\"\ntest = [\"nginx -t\"]", vec!["`deploy.x.test` starts with `nginx -t`, expected a program | the program alone, by its name or its absolute path; each argument is an element of its own".to_owned()]),
        ("kind = \"nginx\"\ntimeout = \"99ms\"\nmin_gap = \"1d1ms\"", both("`deploy.x.timeout` is `99ms`, expected a duration from 100ms to 1h", "`deploy.x.min_gap` is `1d1ms`, expected a duration from 0s to 1d")),
        ("kind = \"nginx\"\nwindow = \"02:00-04:00\"", vec!["`deploy.x.window` is `02:00-04:00`, expected days and times such as `Sat,Sun 02:00-04:00`, `Mon-Fri 22:00-05:00`, `daily 02:00-04:00` | put `daily` or days before the times".to_owned()]),
        ("kind = \"nginx\"\nwindow = \"Mon-Frei 02:00-04:00\"", vec!["`deploy.x.window` is `Mon-Frei 02:00-04:00`, expected days such as `Sat,Sun`, `Mon-Fri` or `daily` | did you mean `Fri`?".to_owned()]),
        ("kind = \"nginx\"\nverify = [\"::1\", { adress = \"a:1\" }]", vec![
            "`deploy.x.verify[0]` is `::1`, expected `host:port`, such as `127.0.0.1:443` or `[::1]:443` | `[::1]:443` would do".to_owned(),
            "missing `deploy.x.verify[1].address`, expected `host:port`, such as `127.0.0.1:443` or `[::1]:443` | add `address = …` to `deploy.x.verify[1]`".to_owned(),
            "unknown key `adress` in `deploy.x.verify[1]` | did you mean `address`?".to_owned(),
        ]),
    ] {
        assert_eq!(told(&format!("version = 1\n[deploy.x]\n{lines}\n")), expected);
    }
    assert_eq!(
        told("version = 1\n[deploy.\"a b\"]\nkind = \"nginx\"\n"),
        ["`deploy.\"a b\"` has the name `a b`, expected letters, digits, `.`, `-`, `_`, starting with a letter or digit"]
    );
}

#[test]
fn alerts() {
    const MAIL: &str = "kind = \"email\"\nfrom = \"a@example.com\"\nto = [\"a@example.com\"]";
    for (lines, expected) in [
        (
            "kind = \"sms\"".to_owned(),
            vec!["`alerts.channel[0].kind` is `sms`, expected `desktop`, `webhook`, `email` or `command`"],
        ),
        (
            "kind = \"webhook\"\nurl = \"http://example.com/hunter2\"".to_owned(),
            vec![
                "`alerts.channel[0].url` is not an address events can be posted to, expected an https address, or http to a loopback address | use https: the address is a secret, and so is what it is told",
            ],
        ),
        (
            "kind = \"webhook\"\nurl = { env = \"U\" }\nheaders = { Host = \"hunter2\" }".to_owned(),
            vec!["`alerts.channel[0].headers.Host` is no name of a header, expected letters, digits and `-`"],
        ),
        (
            "kind = \"webhook\"\nurl = { env = \"U\" }\ntemplate = \"\"".to_owned(),
            vec!["`alerts.channel[0].template` has 0 bytes, expected 1 to 16384"],
        ),
        (
            "kind = \"desktop\"\nmin_severity = \"warn\"\nevents = [\"expire\"]\ncertificates = [\"\"]".to_owned(),
            vec![
                "`alerts.channel[0].min_severity` is `warn`, expected `info`, `warning` or `critical` | did you mean `warning`?",
                "`alerts.channel[0].events[0]` is `expire`, expected `expiring`, `expired`, `sync_failed`, `deploy_failed`, `renewed`, `successor_available`, `drift`, `resolved`, `provider_down`, `config_refused`, `ledger_rebuilt`, `clock_skew` or `test` | did you mean `expired`?",
                "`alerts.channel[0].certificates[0]` is ``, expected a name, or a pattern such as `*.example.com`",
            ],
        ),
        (
            "kind = \"command\"\ncommand = []".to_owned(),
            vec![
                "`alerts.channel[0].command` is an empty array, expected an argument vector such as `[\"systemctl\", \"reload\", \"nginx.service\"]`",
            ],
        ),
        (
            MAIL.to_owned(),
            vec!["missing `alerts.channel[0].host`, expected a mail server | add `host = …` to [[alerts.channel]]"],
        ),
        (
            format!("{MAIL}\nhost = \"mail.example.com\"\nencryption = \"none\""),
            vec![
                "`alerts.channel[0].encryption` is `none`, which is only for a mail server at a loopback address, not for `mail.example.com` | `starttls` or `tls` would do",
            ],
        ),
        (
            format!("{MAIL}\nhost = \"::1\"\nport = 0\nusername = \"hunter2\""),
            vec![
                "`alerts.channel[0].port` is the number 0, expected a whole number from 1 to 65535",
                "`alerts.channel[0].username` is there without `password`, expected both or neither",
            ],
        ),
        (
            MAIL.replace("[\"a@example.com\"]", "[]") + "\nhost = \"::1\"",
            vec!["`alerts.channel[0].to` is an empty array, expected at least one mail address"],
        ),
        (
            MAIL.replace("from = \"a@example.com\"", "from = \"a@b\\r\\nBcc: c@d\"") + "\nhost = \"::1\"",
            vec![
                "`alerts.channel[0].from` is `a@b\\u{d}\\u{a}Bcc: c@d`, expected a mail address such as `ops@example.com` or `certsyncd <ops@example.com>`",
            ],
        ),
        (
            "kind = \"desktop\"\nname = \"desktop-2\"\n[[alerts.channel]]\nkind = \"desktop\"".to_owned(),
            vec![
                "`alerts.channel[1]` has the name `desktop-2`, which is the name of `alerts.channel[0]` already | every channel has a `name` of its own",
            ],
        ),
    ] {
        assert_eq!(told(&format!("version = 1\n[[alerts.channel]]\n{lines}\n")), expected);
    }
    for (line, expected) in [
        (
            "thresholds = [3651, 0]",
            vec![
                "`alerts.thresholds[0]` is the number 3651, expected a whole number from 1 to 3650",
                "`alerts.thresholds[1]` is the number 0, expected a whole number from 1 to 3650",
            ],
        ),
        ("remind = \"366d\"", vec!["`alerts.remind` is `366d`, expected a duration from 1s to 365d"]),
        ("after_failures = 0", vec!["`alerts.after_failures` is the number 0, expected a whole number from 1 to 100"]),
    ] {
        assert_eq!(told(&format!("version = 1\n[alerts]\n{line}\n")), expected);
    }
}

#[test]
fn what_is_unwise_is_a_warning() {
    let warnings = |text: &str| said(&parsed(text).warnings);
    assert_eq!(warnings(BASE), [""; 0]);
    assert_eq!(
        warnings("version = 1"),
        [
            "no `[[certificate]]`: there is nothing to keep up to date | `certsyncd list` shows what an account holds, `certsyncd init PROVIDER` writes the entries"
        ]
    );
    for (old, new, expected) in [
        (
            "cn-north-4",
            "cn-east-3",
            "`providers.scm.region` is `cn-east-3`; SCM is documented for `cn-north-4`, `ap-southeast-1` or `my-kualalumpur-1` | one region shows the whole account: `cn-north-4` would do",
        ),
        ("deploy = [\"web\"]", "", "`deploy.web` is not used: no certificate names it in `deploy`"),
        (
            "verify = [\"127.0.0.1:443\"]",
            "",
            "`deploy.web` has no `verify`: whether it serves the new certificate is not looked at | add `verify = [\"127.0.0.1:443\"]`",
        ),
        (
            "kind = \"nginx\"",
            "kind = \"nginx\"\ntest = [\"/usr/sbin/nginx\", \"-t\"]",
            "`deploy.web.test` is `nginx -t`, which needs root: as the service's user it fails on a stock host | leave `test` out: the unit's own reload checks the configuration",
        ),
        (
            "[deploy.web]",
            "[providers.idle]\nkind = \"cds\"\nregion = \"us\"\nauth = { method = \"access-key\", access_key = \"a\", secret_key = \"b\" }\n[deploy.web]",
            "`providers.idle` is not used: no certificate comes from it",
        ),
        (
            "[deploy.web]",
            "[metrics]\ntextfile = \"/run/a\"\n[deploy.web]",
            "`metrics.textfile` is `/run/a`, which does not end in `.prom` | node-exporter only reads files that end in `.prom`",
        ),
        (
            "[deploy.web]",
            "[[alerts.channel]]\nkind = \"webhook\"\nurl = { env = \"U\" }\ntemplate = '{\"text\": \"{mesage}\"}'\n[deploy.web]",
            "`alerts.channel[0].template` has the place `{mesage}`, which is no field of an event | did you mean `{message}`?",
        ),
    ] {
        assert_eq!(warnings(&BASE.replace(old, new)), [expected]);
    }
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let told = |path: &Path| said(&config::load(path).unwrap_err().problems).join("; ");
    assert_eq!(
        told(&path),
        "failed to read the configuration: there is no such file | write it (`config.example.toml` has every key), or name another by `--config FILE` or `CERTSYNCD_CONFIG`"
    );
    assert_eq!(
        told(folder.path()),
        format!("the configuration is a folder, expected a file | name the file in it, such as `{}`", path.display())
    );
    std::fs::write(&path, b"version = 1\n# \xff\n").unwrap();
    assert_eq!(told(&path), "line 2 of the configuration is not UTF-8 text | save the file as UTF-8");
    std::fs::write(&path, format!("version = 1\n#{}", "x".repeat(config::MAX_FILE - 13))).unwrap();
    assert!(config::load(&path).is_ok());
    std::fs::write(&path, format!("version = 1\n#{}", "x".repeat(config::MAX_FILE - 12))).unwrap();
    assert_eq!(told(&path), format!("the configuration is larger than {} KiB", config::MAX_FILE / 1024));
    std::fs::write(&path, format!("\u{feff}{}", BASE.replace('\n', "\r\n"))).unwrap();
    assert_eq!(config::load(&path).unwrap().path, path);
}

#[test]
fn a_problem_of_a_file_without_text_is_shown_too() {
    let rendered = config::load(Path::new("/nonexistent/config.toml")).unwrap_err().render(false);
    let expected = "error: failed to read the configuration: there is no such file\n--> /nonexistent/config.toml\n = hint: write it (`config.example.toml` has every key), or name another by `--config FILE` or `CERTSYNCD_CONFIG`\n";
    assert_eq!(rendered, expected);
}

#[test]
fn plain_secrets_in_a_file_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, BASE.replace("{ method = \"metadata\" }", "{ method = \"token\", token = \"hunter2\" }")).unwrap();
    let warned = |mode: u32| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        config::check(&path, false).unwrap()
    };
    assert_eq!(warned(0o640).1, "");
    let (settings, shown) = warned(0o644);
    assert_eq!(
        said(&settings.warnings),
        [
            "`providers.scm.auth.token` stands in a file that every user of this host can read (mode 0644) | `chmod o-r` the file, or write `{ file = … }`, `{ env = … }` or `{ credential = … }` instead"
        ]
    );
    assert!(shown.starts_with("warning: `providers.scm.auth.token` stands") && shown.contains("token = *********"), "{shown}");
    assert!(!shown.contains("hunter2"));
}

#[test]
fn no_message_and_no_snippet_shows_a_secret() {
    for text in [
        "version = 1\n[providers]\nx = { kind = \"huawe\", auth = { method = \"acces-key\", access_key = \"hunter2\", secret_key = [\"hunter2\"], token = { fil = \"hunter2\" } } }",
        "version = 1\nproviders.y = { kind = \"cds\", region = \"eu\", auth = { method = \"x\", access_key = { file = [\"hunter2\"] }, secretkey = \"hunter2\" } }",
        "version = 1\nproviders.z = { kind = \"cds\", region = \"eu\", auth = \"hunter2\" }",
        "version = 1\nproviders.z = { kind = \"cds\", region = \"eu\", endpoint = \"https://u:hunter2@a/?\" }",
        "version = 1\nauht.secret_key = \"hunter2\"",
        "version.x = { token = \"hunter2\" }",
        "version = 1\nproviders.x.authr = \"hunter2\"",
        "version = 1\nalerts.heartbeat_url = \"\" # hunter2",
        "version = 1\n[daemon]\nsplay = 1 # token = \"hunter2\"\n# hunter2",
        "version = 1\nalerts.channel = [{ kind = \"web\", headers = { A = \"hunter2\" }, url = \"hunter2\", secret = 7 }]",
        "version = 1\nalerts.channel = [{ kind = \"webhook\", headers = [\"hunter2\"], url = \"http://a.example/hunter2\" }]",
        "version = 1\nalerts = { heartbeat_url = \"ftp://hunter2\" }",
        "version = 1\n[providers.x.auth]\nsecret_key = \"hunter2\nmethod = \"x\"",
        "version = 1\n[providers.x.auth]\nsecret_key = hunter2\ntoken = \"hunter2\" x",
        "version = 1\n[providers.x.auth]\nsecret_key = \"hunter2\"\nsecret_key = \"hunter2\"",
        "version = 1\n[providers.x.auth]\ntoken = \"\"\"\nhunter2\u{1}\n\"\"\"",
        "version = 1\nproviders.x.auth = { method = \"token\", token = \"hunter2\", }, x",
    ] {
        let refused = refused(text);
        let all = format!("{}{}{refused}{refused:?}", refused.render(false), refused.render(true));
        assert!(!all.contains("hunter2"), "{text}\n{all}");
    }
}

fn parsed(text: &str) -> Settings {
    config::parse(text, Path::new("config.toml")).unwrap_or_else(|refused| panic!("{}", refused.render(false)))
}

fn refused(text: &str) -> Refused {
    match config::parse(text, Path::new("config.toml")) {
        Ok(_) => panic!("accepted: {text}"),
        Err(refused) => refused,
    }
}

fn told(text: &str) -> Vec<String> {
    said(&refused(text).problems)
}

fn said(problems: &[Problem]) -> Vec<String> {
    let one = |problem: &Problem| match &problem.hint {
        Some(hint) => format!("{} | {hint}", problem.message),
        None => problem.message.clone(),
    };
    problems.iter().map(one).collect()
}
