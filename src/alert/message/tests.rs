//! Every message once, in both languages, as a person wrote it down and read it aloud.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::report::Fingerprint;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-22T02:00:00Z")
}

fn names() -> Vec<String> {
    vec!["api.example.com".into(), "www.example.com".into()]
}

/// Both languages, without the runbook's address, which each must end with.
fn told(event: EventKind, story: &Story<'_>) -> (String, String) {
    let names = names();
    let subject = Subject {
        host: "web-1",
        certificate: Some("api"),
        names: &names,
        provider: Some("shouyun"),
        id: Some("cert-1"),
        now: now(),
    };
    let text = tell(event, &subject, story);
    let end = format!("{RUNBOOK}#{event}");
    let cut =
        |text: &str, before: &str| text.strip_suffix(&format!("{before}{end}")).unwrap_or_else(|| panic!("{text}")).to_owned();
    (cut(&text.en, " Runbook: "), cut(&text.zh, "处理手册："))
}

fn assert_told(event: EventKind, story: &Story<'_>, english: &str, chinese: &str) {
    let (en, zh) = told(event, story);
    assert_eq!(en, english);
    assert_eq!(zh, chinese);
}

const WAY: Way<'_> = Way { successor: None, near_misses: &[], error: None };

fn failure() -> Failure {
    Failure {
        kind: "server".into(),
        causes: vec!["failed to export certificate `cert-1`".into(), "server said 400: `SCM.0010` not issued".into()],
        hint: Some("the certificate must be issued before it can be exported".into()),
        transient: false,
    }
}

#[test]
fn expiring() {
    assert_told(
        EventKind::Expiring,
        &Story::Expiring { until: at("2026-12-01T03:30:00Z"), flagged: false, way: WAY },
        "Certificate `api` (api.example.com, www.example.com) on web-1 ends in 9 days, on 2026-12-01 03:30 UTC. Renew it at `shouyun`, where its id is `cert-1`; certsyncd installs the renewal by itself (unless its `successor` says otherwise), in the next pass or at once with `certsyncd sync api`.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）将于 2026-12-01 03:30 UTC 到期，还剩 9 天。请到 `shouyun` 续期该证书（ID `cert-1`）；续期后 certsyncd 会在下一轮自动安装（除非条目的 `successor` 另有设置），也可立即执行 `certsyncd sync api`。",
    );
}

#[test]
fn expiring_by_the_providers_flag_with_near_misses_and_a_failing_fetch() {
    let misses = ["the renewal `cert-2` lacks `www.example.com`".to_owned()];
    let failure = failure();
    assert_told(
        EventKind::Expiring,
        &Story::Expiring {
            until: at("2026-12-30T02:00:00Z"),
            flagged: true,
            way: Way { successor: None, near_misses: &misses, error: Some(&failure) },
        },
        "Certificate `api` (api.example.com, www.example.com) on web-1 ends in 38 days, on 2026-12-30 02:00 UTC. `shouyun` marks it as expiring. Renew it at `shouyun`, where its id is `cert-1`; certsyncd installs the renewal by itself (unless its `successor` says otherwise), in the next pass or at once with `certsyncd sync api`. Seen, but not fit to install: the renewal `cert-2` lacks `www.example.com`. The last try to fetch failed: failed to export certificate `cert-1`: server said 400: `SCM.0010` not issued.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）将于 2026-12-30 02:00 UTC 到期，还剩 38 天（`shouyun` 已标记为即将过期）。请到 `shouyun` 续期该证书（ID `cert-1`）；续期后 certsyncd 会在下一轮自动安装（除非条目的 `successor` 另有设置），也可立即执行 `certsyncd sync api`。已发现但不能安装的新证书：the renewal `cert-2` lacks `www.example.com`。最近一次获取失败：failed to export certificate `cert-1`: server said 400: `SCM.0010` not issued。",
    );
}

#[test]
fn expiring_while_a_renewal_waits() {
    let successor = SuccessorNote { id: "cert-2".into(), not_after: Some("2027-02-25 12:00:00".into()) };
    assert_told(
        EventKind::Expiring,
        &Story::Expiring {
            until: at("2026-11-23T07:00:00Z"),
            flagged: false,
            way: Way { successor: Some(&successor), near_misses: &[], error: None },
        },
        "Certificate `api` (api.example.com, www.example.com) on web-1 ends in 29 hours, on 2026-11-23 07:00 UTC. A renewal waits for your decision: `cert-2` (listed as valid until 2027-02-25 12:00:00). To take it, write `id = \"cert-2\"` (or `successor = \"adopt\"`) in its entry and run `systemctl reload certsyncd`.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）将于 2026-11-23 07:00 UTC 到期，还剩 29 小时。有一张新证书等您决定：`cert-2`（标明有效期至 2027-02-25 12:00:00）。如需启用，请在该条目中写入 `id = \"cert-2\"`（或 `successor = \"adopt\"`），再执行 `systemctl reload certsyncd`。",
    );
}

#[test]
fn expired() {
    assert_told(
        EventKind::Expired,
        &Story::Expired { until: at("2026-11-18T02:00:00Z"), way: WAY },
        "Certificate `api` (api.example.com, www.example.com) on web-1 ended 4 days ago, on 2026-11-18 02:00 UTC: clients refuse it. Renew it at `shouyun`, where its id is `cert-1`; certsyncd installs the renewal by itself (unless its `successor` says otherwise), in the next pass or at once with `certsyncd sync api`.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）已于 2026-11-18 02:00 UTC 过期（4 天前），客户端会拒绝连接。请到 `shouyun` 续期该证书（ID `cert-1`）；续期后 certsyncd 会在下一轮自动安装（除非条目的 `successor` 另有设置），也可立即执行 `certsyncd sync api`。",
    );
}

#[test]
fn expired_by_the_providers_flag_alone() {
    assert_told(
        EventKind::Expired,
        &Story::Expired { until: at("2027-02-01T00:00:00Z"), way: WAY },
        "`shouyun` says that certificate `api` (api.example.com, www.example.com) on web-1 has expired, although its own date is 2027-02-01 00:00 UTC: it may have been revoked. Look at it in the provider's console. Renew it at `shouyun`, where its id is `cert-1`; certsyncd installs the renewal by itself (unless its `successor` says otherwise), in the next pass or at once with `certsyncd sync api`.",
        "`shouyun` 标明主机 web-1 上的证书 `api`（api.example.com、www.example.com）已过期，但证书自身的到期时间是 2027-02-01 00:00 UTC：证书可能已被吊销，请到控制台查看。请到 `shouyun` 续期该证书（ID `cert-1`）；续期后 certsyncd 会在下一轮自动安装（除非条目的 `successor` 另有设置），也可立即执行 `certsyncd sync api`。",
    );
}

#[test]
fn an_older_one_still_served() {
    let served = Served {
        address: "127.0.0.1:443".into(),
        name: "www.example.com".into(),
        fingerprint: Some(Fingerprint([1; 32])),
        not_after: Some(at("2026-11-24T02:00:00Z")),
        error: None,
        closed: false,
    };
    assert_told(
        EventKind::Expiring,
        &Story::Stale { served: &served, until: at("2026-11-24T02:00:00Z"), live_until: at("2027-11-01T00:00:00Z") },
        "127.0.0.1:443 on web-1 still serves an older certificate for `www.example.com` (entry `api`) that ends in 2 days, on 2026-11-24 02:00 UTC. The one on disk is valid until 2027-11-01 00:00 UTC, but the server has not taken it up: run `certsyncd sync --force api`; if the old one is still served after that, restart the server.",
        "主机 web-1 上的 127.0.0.1:443 仍在为 `www.example.com`（条目 `api`）提供旧证书，该证书将于 2026-11-24 02:00 UTC 到期，还剩 2 天。磁盘上的证书有效期至 2027-11-01 00:00 UTC，但服务尚未加载：请执行 `certsyncd sync --force api`；如果之后仍是旧证书，请重启该服务。",
    );
    assert_told(
        EventKind::Expired,
        &Story::Stale { served: &served, until: at("2026-11-21T23:00:00Z"), live_until: at("2027-11-01T00:00:00Z") },
        "127.0.0.1:443 on web-1 still serves an older certificate for `www.example.com` (entry `api`) that ended 3 hours ago, on 2026-11-21 23:00 UTC: clients refuse it. The one on disk is valid until 2027-11-01 00:00 UTC, but the server has not taken it up: run `certsyncd sync --force api`; if the old one is still served after that, restart the server.",
        "主机 web-1 上的 127.0.0.1:443 仍在为 `www.example.com`（条目 `api`）提供旧证书，该证书已于 2026-11-21 23:00 UTC 过期（3 小时前），客户端会拒绝连接。磁盘上的证书有效期至 2027-11-01 00:00 UTC，但服务尚未加载：请执行 `certsyncd sync --force api`；如果之后仍是旧证书，请重启该服务。",
    );
}

#[test]
fn sync_failed() {
    let failure = failure();
    assert_told(
        EventKind::SyncFailed,
        &Story::SyncFailed { passes: 2, error: Some(&failure), until: Some(at("2026-12-30T02:00:00Z")) },
        "Certificate `api` (api.example.com, www.example.com) on web-1 could not be brought up to date from `shouyun` in 2 passes in a row: failed to export certificate `cert-1`: server said 400: `SCM.0010` not issued. What is live stays in service; it ends in 38 days, on 2026-12-30 02:00 UTC. To mend it: the certificate must be issued before it can be exported. Then run `certsyncd sync api`.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）连续 2 次从 `shouyun` 更新失败：failed to export certificate `cert-1`: server said 400: `SCM.0010` not issued。现用证书继续提供服务，将于 2026-12-30 02:00 UTC 到期，还剩 38 天。处理办法：the certificate must be issued before it can be exported。然后执行 `certsyncd sync api`。",
    );
    assert_told(
        EventKind::SyncFailed,
        &Story::SyncFailed { passes: 1, error: None, until: None },
        "Certificate `api` (api.example.com, www.example.com) on web-1 could not be brought up to date from `shouyun` in the last pass: no cause was told. Nothing is live for it yet: a server that needs its files cannot start. Correct the cause, then run `certsyncd sync api`.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）最近一次从 `shouyun` 更新失败：未给出原因。该证书尚无可用文件，依赖它的服务无法启动。请排除原因后执行 `certsyncd sync api`。",
    );
}

#[test]
fn deploy_failed() {
    let one = ["api".to_owned()];
    assert_told(
        EventKind::DeployFailed,
        &Story::DeployFailed {
            target: "nginx",
            certificates: &one,
            error: "failed to reload `nginx.service`:\n nginx: [emerg] SSL_CTX_use_PrivateKey failed",
            hint: None,
            rolled_back: true,
            held: None,
        },
        "`nginx` on web-1 did not take up `api`: failed to reload `nginx.service`: nginx: [emerg] SSL_CTX_use_PrivateKey failed. The previous certificate was put back and is live again. Once the cause is mended, `certsyncd sync --force api` tries it again; another certificate from the provider is tried by itself.",
        "主机 web-1 上的 `nginx` 未能启用证书 `api`：failed to reload `nginx.service`: nginx: [emerg] SSL_CTX_use_PrivateKey failed。已恢复为上一份证书。排除原因后，请执行 `certsyncd sync --force api` 重试；证书来源处有另一张证书时会自动尝试。",
    );
    let two = ["api".to_owned(), "www".to_owned()];
    assert_told(
        EventKind::DeployFailed,
        &Story::DeployFailed {
            target: "haproxy",
            certificates: &two,
            error: "unknown keyword `foo` in haproxy.cfg",
            hint: Some("somebody else broke the configuration: correct it"),
            rolled_back: false,
            held: Some("rejected 3 times"),
        },
        "`haproxy` on web-1 did not take up `api`, `www`: unknown keyword `foo` in haproxy.cfg. The server goes on with what it has loaded. It is held now and not tried again by itself: rejected 3 times. To mend it: somebody else broke the configuration: correct it. Once the cause is mended, `certsyncd sync --force api www` tries it again; another certificate from the provider is tried by itself.",
        "主机 web-1 上的 `haproxy` 未能启用证书 `api`、`www`：unknown keyword `foo` in haproxy.cfg。服务仍使用已加载的证书。该证书已被搁置，不再自动重试：rejected 3 times。处理办法：somebody else broke the configuration: correct it。排除原因后，请执行 `certsyncd sync --force api www` 重试；证书来源处有另一张证书时会自动尝试。",
    );
}

/// Force is for what a server rejected, and only where it is named; what waits is taken up by a plain `sync`.
#[test]
fn trying_a_deploy_again() {
    let names: Vec<String> = (1..=4).map(|number| format!("shop-{number}")).collect();
    let tell = |count: usize, hint, rolled_back, held| {
        let story = Story::DeployFailed { target: "nginx", certificates: &names[..count], error: "x", hint, rolled_back, held };
        told(EventKind::DeployFailed, &story)
    };
    for (count, rolled_back, held, command) in [
        (1, false, None, "`certsyncd sync`"),
        (4, false, None, "`certsyncd sync`"),
        (1, true, None, "`certsyncd sync --force shop-1`"),
        (1, false, Some("rejected 3 times"), "`certsyncd sync --force shop-1`"),
        (3, true, None, "`certsyncd sync --force shop-1 shop-2 shop-3`"),
        (4, true, None, "`certsyncd sync --force NAME`"),
        (0, true, None, "`certsyncd sync --force NAME`"),
    ] {
        let (en, zh) = tell(count, None, rolled_back, held);
        assert!(en.contains(command) && zh.contains(command), "{en} {zh}");
    }
    let (en, zh) = tell(1, None, false, None);
    assert!(en.ends_with(" Once the cause is mended, it is tried again by itself, or at once with `certsyncd sync`."), "{en}");
    assert!(zh.ends_with("排除原因后会自动重试，也可立即执行 `certsyncd sync`。"), "{zh}");
    // a hint that says how already is not said twice, and names the entry
    let (en, zh) = tell(1, Some("look at it, then run `certsyncd sync --force NAME`"), true, None);
    assert!(en.ends_with("live again. To mend it: look at it, then run `certsyncd sync --force shop-1`."), "{en}");
    assert!(zh.ends_with("处理办法：look at it, then run `certsyncd sync --force shop-1`。"), "{zh}");
}

#[test]
fn a_refusal_that_says_what_to_run_gets_no_second_command() {
    let hint = Some("if it must go live all the same, run `certsyncd sync --force NAME`".to_owned());
    let failure = Failure { hint, ..failure() };
    let (en, zh) = told(EventKind::SyncFailed, &Story::SyncFailed { passes: 2, error: Some(&failure), until: None });
    assert!(en.ends_with("To mend it: if it must go live all the same, run `certsyncd sync --force api`."), "{en}");
    assert!(zh.ends_with("处理办法：if it must go live all the same, run `certsyncd sync --force api`。"), "{zh}");
}

#[test]
fn renewed() {
    assert_told(
        EventKind::Renewed,
        &Story::Renewed { until: at("2027-02-20T02:00:00Z"), previous_id: Some("cert-0") },
        "Certificate `api` (api.example.com, www.example.com) on web-1 has been renewed: another certificate is live, valid until 2027-02-20 02:00 UTC (90 days). Its id changed from `cert-0` to `cert-1`; the configuration may stay as it is. Nothing is to be done.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）已更新：新证书已启用，有效期至 2027-02-20 02:00 UTC（还剩 90 天）。证书 ID 由 `cert-0` 变为 `cert-1`，配置无需修改。无需处理。",
    );
}

#[test]
fn successor_available() {
    let successor = SuccessorNote { id: "cert-2".into(), not_after: None };
    assert_told(
        EventKind::SuccessorAvailable,
        &Story::SuccessorAvailable { successor: &successor, until: Some(at("2026-12-22T02:00:00Z")) },
        "A renewal for certificate `api` (api.example.com, www.example.com) on web-1 waits for your decision: `cert-2`; the live one ends in 30 days, on 2026-12-22 02:00 UTC. To take it, write `id = \"cert-2\"` (or `successor = \"adopt\"`) in its entry and run `systemctl reload certsyncd`.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）有一张新证书等您决定：`cert-2`；现用证书将于 2026-12-22 02:00 UTC 到期，还剩 30 天。如需启用，请在该条目中写入 `id = \"cert-2\"`（或 `successor = \"adopt\"`），再执行 `systemctl reload certsyncd`。",
    );
}

#[test]
fn drift() {
    let changes = ["mode of `privkey.pem` was 0644".to_owned(), "`cert.pem` was edited".to_owned()];
    assert_told(
        EventKind::Drift,
        &Story::Drift { changes: &changes },
        "Someone else changed files of certificate `api` (api.example.com, www.example.com) on web-1, and certsyncd put them right: mode of `privkey.pem` was 0644; `cert.pem` was edited. If that was you, replace the certificate at the provider instead; if not, find out who writes there.",
        "主机 web-1 上的证书 `api`（api.example.com、www.example.com）的文件被其他人或程序改动，certsyncd 已将其恢复：mode of `privkey.pem` was 0644; `cert.pem` was edited。如果是您改的，请改为在证书来源处更换证书；如果不是，请查明是谁在写这些文件。",
    );
}

#[test]
fn provider_down() {
    let many: Vec<String> = (1..=300).map(|number| format!("shop-{number}")).collect();
    assert_told(
        EventKind::ProviderDown,
        &Story::ProviderDown {
            certificates: &many,
            cause: "server said 401: `SCM.4002` permission missing",
            hint: Some("give the user the permission `scm:cert:export`"),
            first: Some(("shop-7", at("2026-11-25T02:00:00Z"))),
        },
        "300 certificates of `shouyun` on web-1 cannot be brought up to date, for one cause: server said 401: `SCM.4002` permission missing. Concerned: `shop-1`, `shop-2`, `shop-3` and 297 more. What is live stays in service; the first to end is `shop-7`, in 3 days, on 2026-11-25 02:00 UTC. To mend it: give the user the permission `scm:cert:export`. `certsyncd check --online` says what works and what does not.",
        "主机 web-1 上来自 `shouyun` 的 300 张证书因同一原因无法更新：server said 401: `SCM.4002` permission missing。涉及：`shop-1`、`shop-2`、`shop-3` 等 300 张。现用证书继续提供服务；最早到期的是 `shop-7`，2026-11-25 02:00 UTC（还剩 3 天）。处理办法：give the user the permission `scm:cert:export`。执行 `certsyncd check --online` 可查看哪些环节正常、哪些异常。",
    );
    assert_told(
        EventKind::ProviderDown,
        &Story::ProviderDown { certificates: &[], cause: "listing is not permitted", hint: None, first: None },
        "`shouyun` does not serve web-1 as it should: listing is not permitted. `certsyncd check --online` says what works and what does not.",
        "主机 web-1 使用证书来源 `shouyun` 时出现异常：listing is not permitted。执行 `certsyncd check --online` 可查看哪些环节正常、哪些异常。",
    );
}

#[test]
fn host_wide() {
    assert_told(
        EventKind::ConfigRefused,
        &Story::ConfigRefused("`certificate[1].successor` is `adobt`, expected `adopt`, `warn` or `ignore`"),
        "The new configuration on web-1 is not valid, and the old one goes on: `certificate[1].successor` is `adobt`, expected `adopt`, `warn` or `ignore`. Correct the file until `certsyncd check` is content, then run `systemctl reload certsyncd`. A restart before that would fail.",
        "主机 web-1 上的新配置无效，仍在使用旧配置：`certificate[1].successor` is `adobt`, expected `adopt`, `warn` or `ignore`。请修改配置文件，直到 `certsyncd check` 通过，再执行 `systemctl reload certsyncd`。在此之前重启服务会失败。",
    );
    assert_told(
        EventKind::LedgerRebuilt,
        &Story::LedgerRebuilt("`ledger.json` ends in the middle"),
        "certsyncd on web-1 lost its memory of earlier passes and rebuilt it from the files on disk: `ledger.json` ends in the middle. Certificates in service were not touched. If nobody removed it by hand, look at the disk (`journalctl -k -p err`).",
        "主机 web-1 上 certsyncd 的运行记录丢失，已根据磁盘上的文件重建：`ledger.json` ends in the middle。正在使用的证书未受影响。如果不是人为删除，请检查磁盘（`journalctl -k -p err`）。",
    );
    assert_told(
        EventKind::ClockSkew,
        &Story::ClockSkew("the clock of `scm` is 185 minutes ahead of it"),
        "The clock of web-1 is probably wrong: the clock of `scm` is 185 minutes ahead of it. Until it is right, nobody is told here that a certificate ends. Look at `timedatectl` and at the time service.",
        "主机 web-1 的时钟可能不准：the clock of `scm` is 185 minutes ahead of it。时钟恢复正常之前，本机不会发出证书到期告警。请检查 `timedatectl` 和时间同步服务。",
    );
}

#[test]
fn resolved() {
    let until = at("2027-02-20T02:00:00Z");
    let api = "certificate `api` (api.example.com, www.example.com) on web-1";
    let api_zh = "主机 web-1 上的证书 `api`（api.example.com、www.example.com）";
    for (over, english, chinese) in [
        (
            Over::Replaced(until),
            format!("{api} has another certificate in service, valid until 2027-02-20 02:00 UTC (90 days)"),
            format!("{api_zh}已换用另一张证书，有效期至 2027-02-20 02:00 UTC（还剩 90 天）"),
        ),
        (
            Over::Valid(until),
            format!("{api} counts as valid again, until 2027-02-20 02:00 UTC (90 days)"),
            format!("{api_zh}恢复为有效，有效期至 2027-02-20 02:00 UTC（还剩 90 天）"),
        ),
        (
            Over::Fetched,
            format!("{api} is fetched from `shouyun` again without error"),
            format!("{api_zh}已能从 `shouyun` 正常获取"),
        ),
        (
            Over::Deployed("nginx"),
            "`nginx` on web-1 has taken up its certificates".into(),
            "主机 web-1 上的 `nginx` 已启用全部证书".into(),
        ),
        (
            Over::ProviderBack("scm"),
            "`scm` delivers its certificates to web-1 again".into(),
            "主机 web-1 已能从 `scm` 正常获取证书".into(),
        ),
        (Over::ClockRight, "the clock of web-1 is right again".into(), "主机 web-1 的时钟已恢复正常".into()),
        (
            Over::ConfigAccepted,
            "the configuration on web-1 is valid again and in use".into(),
            "主机 web-1 的配置已有效并启用".into(),
        ),
        (
            Over::Removed("api"),
            "`api` is no longer in the configuration of web-1, and nobody watches it here any more".into(),
            "`api` 已从主机 web-1 的配置中移除，不再监控".into(),
        ),
    ] {
        assert_told(
            EventKind::Resolved,
            &Story::Resolved(over),
            &format!("Over: {english}. Nothing is to be done."),
            &format!("已恢复：{chinese}。无需处理。"),
        );
    }
}

#[test]
fn test() {
    assert_told(
        EventKind::Test,
        &Story::Test { channel: "ops" },
        "This is a test of channel `ops`, sent by certsyncd on web-1 because someone asked for it. Nothing is wrong.",
        "这是一条测试告警：有人在主机 web-1 上让 certsyncd 测试通道 `ops`。一切正常，无需处理。",
    );
}

#[test]
fn time_left_in_words() {
    let left = |seconds: i64| {
        let until = now() + jiff::SignedDuration::from_secs(seconds);
        let (en, zh) = told(EventKind::Expiring, &Story::Expiring { until, flagged: false, way: WAY });
        let part = |text: &str, from: &str, to: &str| text.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned();
        (part(&en, "ends ", ","), part(&zh, "到期，", "。"))
    };
    for (seconds, english, chinese) in [
        (2 * 86_400, "in 2 days", "还剩 2 天"),
        (2 * 86_400 - 1, "in 47 hours", "还剩 47 小时"),
        (7_200, "in 2 hours", "还剩 2 小时"),
        (7_199, "in 119 minutes", "还剩 119 分钟"),
        (60, "in 1 minute", "还剩 1 分钟"),
        (59, "within a minute", "还剩不到 1 分钟"),
    ] {
        assert_eq!(left(seconds), (english.to_owned(), chinese.to_owned()), "{seconds}");
    }
}

#[test]
fn time_past_in_words() {
    for (seconds, english, chinese) in [
        (0, "just now", "刚刚"),
        (59, "just now", "刚刚"),
        (60, "1 minute ago", "1 分钟前"),
        (7_200, "2 hours ago", "2 小时前"),
        (3 * 86_400 - 1, "2 days ago", "2 天前"),
    ] {
        let until = now() - jiff::SignedDuration::from_secs(seconds);
        let (en, zh) = told(EventKind::Expired, &Story::Expired { until, way: WAY });
        assert!(en.contains(&format!(" ended {english}, on ")), "{en}");
        assert!(zh.contains(&format!("过期（{chinese}）")), "{zh}");
        let successor = SuccessorNote { id: "cert-2".into(), not_after: None };
        let story = Story::SuccessorAvailable { successor: &successor, until: Some(until) };
        let (en, zh) = told(EventKind::SuccessorAvailable, &story);
        assert!(en.contains(&format!("; the live one ended {english}, on ")), "{en}");
        assert!(zh.contains(&format!("过期（{chinese}）")), "{zh}");
    }
}

#[test]
fn names_that_repeat_the_entry_are_left_out_and_many_are_counted() {
    let only = vec!["www.example.com".to_owned()];
    let many: Vec<String> = (1..=5).map(|n| format!("n{n}.example.com")).collect();
    let story = Story::Resolved(Over::Fetched);
    let tell = |names: &[String]| {
        let subject = Subject { host: "h", certificate: Some("www.example.com"), names, provider: None, id: None, now: now() };
        tell(EventKind::Resolved, &subject, &story)
    };
    assert!(tell(&only).en.starts_with("Over: certificate `www.example.com` on h is"));
    assert!(tell(&only).zh.starts_with("已恢复：主机 h 上的证书 `www.example.com`已能"));
    assert!(tell(&many).en.contains("(n1.example.com, n2.example.com, n3.example.com and 2 more)"));
    assert!(tell(&many).zh.contains("（n1.example.com、n2.example.com、n3.example.com 等 5 个域名）"));
}

#[test]
fn other_peoples_words_are_bounded_and_on_one_line() {
    assert_eq!(quote(" a\n\tb\u{7}c \r\n"), "a b c");
    assert_eq!(quote(&"x".repeat(QUOTE_LIMIT)).chars().count(), QUOTE_LIMIT);
    let long = quote(&"证".repeat(QUOTE_LIMIT + 1));
    assert_eq!(long.chars().count(), QUOTE_LIMIT);
    assert!(long.ends_with('…'));
    let words = "x ".repeat(5_000);
    let misses = vec![words.clone(); 40];
    let failure = Failure { kind: "x".into(), causes: vec![words.clone()], hint: Some(words), transient: false };
    let way = Way { successor: None, near_misses: &misses, error: Some(&failure) };
    let (en, zh) = told(EventKind::Expired, &Story::Expired { until: now(), way });
    assert!(en.chars().count() <= MESSAGE_LIMIT && zh.chars().count() <= MESSAGE_LIMIT);
}

#[test]
fn titles() {
    let subject = Subject { host: "web-1", certificate: Some("api"), names: &[], provider: Some("scm"), id: None, now: now() };
    let mut event = crate::alert::rules::event(EventKind::SyncFailed, "k".into(), &subject, &Story::Test { channel: "x" });
    assert_eq!(title(&event, Language::En), "[warning] sync failed: api on web-1");
    assert_eq!(title(&event, Language::Zh), "【警告】证书同步失败：api（web-1）");
    event.certificate = None;
    event.provider = None;
    assert_eq!(title(&event, Language::En), "[warning] sync failed on web-1");
    event.target = Some("nginx".into());
    event.event = EventKind::DeployFailed;
    event.severity = Severity::Critical;
    assert_eq!(title(&event, Language::En), "[critical] deploy failed: nginx on web-1");
    assert_eq!(title(&event, Language::Zh), "【严重】证书部署失败：nginx（web-1）");
}

#[test]
fn the_runbook_has_a_section_for_every_event() {
    let page = include_str!("../../../docs/alerts.md");
    for kind in EventKind::ALL {
        assert!(page.lines().any(|line| line == format!("## {kind}")), "no section for {kind}");
        assert!(page.contains(&format!("| [`{kind}`](#{kind}) |")), "no row for {kind}");
    }
}
