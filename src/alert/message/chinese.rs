//! The Chinese sentences. They say what the English ones say; commands, ids and other people's words stay as they are.

use jiff::Timestamp;

use super::{Over, Story, Subject, Unit, Way, advice, date, distance, full_stop, only, quote, retry, shown};
use crate::config::{EventKind, Severity};
use crate::report::{Failure, SuccessorNote};

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "通知",
        Severity::Warning => "警告",
        Severity::Critical => "严重",
    }
}

pub(super) fn kind(event: EventKind) -> &'static str {
    match event {
        EventKind::Expiring => "证书即将到期",
        EventKind::Expired => "证书已过期",
        EventKind::SyncFailed => "证书同步失败",
        EventKind::DeployFailed => "证书部署失败",
        EventKind::Renewed => "证书已更新",
        EventKind::SuccessorAvailable => "有新证书待确认",
        EventKind::Drift => "证书文件被改动",
        EventKind::Resolved => "告警已恢复",
        EventKind::ProviderDown => "证书来源异常",
        EventKind::ConfigRefused => "新配置被拒绝",
        EventKind::LedgerRebuilt => "运行记录已重建",
        EventKind::ClockSkew => "主机时钟偏差",
        EventKind::Test => "测试告警",
    }
}

pub(super) fn tell(subject: &Subject<'_>, story: &Story<'_>) -> String {
    match *story {
        Story::Expiring { until, flagged, way } => expiring(subject, until, flagged, &way),
        Story::Expired { until, way } => expired(subject, until, &way),
        Story::Stale { served, until, live_until } => stale(subject, &served.address, &served.name, until, live_until),
        Story::SyncFailed { passes, error, until } => sync_failed(subject, passes, error, until),
        Story::DeployFailed { target, certificates, error, hint, rolled_back, held } => {
            deploy_failed(subject.host, target, certificates, error, hint, rolled_back, held)
        }
        Story::Renewed { until, previous_id } => renewed(subject, until, previous_id),
        Story::SuccessorAvailable { successor, until } => successor_available(subject, successor, until),
        Story::Drift { changes } => drift(subject, changes),
        Story::ProviderDown { certificates, cause, hint, first } => provider_down(subject, certificates, cause, hint, first),
        Story::ConfigRefused(why) => config_refused(subject.host, &full_stop(&quote(why), '。')),
        Story::LedgerRebuilt(why) => ledger_rebuilt(subject.host, &full_stop(&quote(why), '。')),
        Story::ClockSkew(why) => clock_skew(subject.host, &full_stop(&quote(why), '。')),
        Story::Resolved(over) => resolved(subject, &over),
        Story::Test { channel } => test(subject.host, channel),
    }
}

fn expiring(subject: &Subject<'_>, until: Timestamp, flagged: bool, way: &Way<'_>) -> String {
    let source = if flagged { format!("（{} 已标记为即将过期）", provider(subject)) } else { String::new() };
    let (end, left) = (date(until), remaining(subject.now, until));
    format!("{}将于 {end} 到期，{left}{source}。{}", who(subject), next(subject, way))
}

fn expired(subject: &Subject<'_>, until: Timestamp, way: &Way<'_>) -> String {
    let who = who(subject);
    let what = if until <= subject.now {
        format!("{who}已于 {} 过期（{}），客户端会拒绝连接。", date(until), ago(subject.now, until))
    } else {
        format!(
            "{} 标明{who}已过期，但证书自身的到期时间是 {}：证书可能已被吊销，请到控制台查看。",
            provider(subject),
            date(until)
        )
    };
    format!("{what}{}", next(subject, way))
}

fn stale(subject: &Subject<'_>, address: &str, sni: &str, until: Timestamp, live_until: Timestamp) -> String {
    let name = subject.certificate.unwrap_or_default();
    let end = if until <= subject.now {
        format!("该证书已于 {} 过期（{}），客户端会拒绝连接", date(until), ago(subject.now, until))
    } else {
        format!("该证书将于 {} 到期，{}", date(until), remaining(subject.now, until))
    };
    format!(
        "主机 {} 上的 {address} 仍在为 `{sni}`（条目 `{name}`）提供旧证书，{end}。磁盘上的证书有效期至 {}，但服务尚未加载：请执行 `certsyncd sync --force {name}`；\
         如果之后仍是旧证书，请重启该服务。",
        subject.host,
        date(live_until)
    )
}

fn sync_failed(subject: &Subject<'_>, passes: u32, error: Option<&Failure>, until: Option<Timestamp>) -> String {
    let name = subject.certificate.unwrap_or_default();
    let passes = if passes > 1 { format!("连续 {passes} 次") } else { "最近一次".to_owned() };
    let left = match until {
        Some(until) if until > subject.now => {
            format!("现用证书继续提供服务，将于 {} 到期，{}。", date(until), remaining(subject.now, until))
        }
        Some(until) => format!("现用证书已于 {} 过期，客户端会拒绝连接。", date(until)),
        None => "该证书尚无可用文件，依赖它的服务无法启动。".to_owned(),
    };
    let then = match error.and_then(|error| error.hint.as_deref()).map(|hint| advice(hint, Some(name))) {
        Some((hint, true)) => format!("处理办法：{}", full_stop(&hint, '。')),
        Some((hint, false)) => format!("处理办法：{}然后执行 `certsyncd sync {name}`。", full_stop(&hint, '。')),
        None => format!("请排除原因后执行 `certsyncd sync {name}`。"),
    };
    let why = error.map_or_else(|| "未给出原因".to_owned(), |error| quote(&error.to_string()));
    format!("{}{passes}从 {} 更新失败：{}{left}{then}", who(subject), provider(subject), full_stop(&why, '。'))
}

fn deploy_failed(
    host: &str,
    target: &str,
    certificates: &[String],
    error: &str,
    hint: Option<&str>,
    rolled_back: bool,
    held: Option<&str>,
) -> String {
    let what = if certificates.is_empty() { "证书".to_owned() } else { format!("证书 {}", list(certificates)) };
    let state = if rolled_back { "已恢复为上一份证书。" } else { "服务仍使用已加载的证书。" };
    let held = held.map(|why| format!("该证书已被搁置，不再自动重试：{}", full_stop(&quote(why), '。'))).unwrap_or_default();
    let is_rejected = rolled_back || !held.is_empty();
    let (hint, says_how) = hint.map(|hint| advice(hint, only(certificates))).unwrap_or_default();
    let hint = if hint.is_empty() { hint } else { format!("处理办法：{}", full_stop(&hint, '。')) };
    let retry = retry(certificates, is_rejected);
    let then = match is_rejected {
        _ if says_how => String::new(),
        true => format!("排除原因后，请执行 `{retry}` 重试；证书来源处有另一张证书时会自动尝试。"),
        false => format!("排除原因后会自动重试，也可立即执行 `{retry}`。"),
    };
    format!("主机 {host} 上的 `{target}` 未能启用{what}：{}{state}{held}{hint}{then}", full_stop(&quote(error), '。'))
}

fn renewed(subject: &Subject<'_>, until: Timestamp, previous_id: Option<&str>) -> String {
    let ids = match (previous_id, subject.id) {
        (Some(old), Some(new)) => format!("证书 ID 由 `{old}` 变为 `{new}`，配置无需修改。"),
        _ => String::new(),
    };
    let left = remaining(subject.now, until);
    format!("{}已更新：新证书已启用，有效期至 {}（{left}）。{ids}无需处理。", who(subject), date(until))
}

fn successor_available(subject: &Subject<'_>, successor: &SuccessorNote, until: Option<Timestamp>) -> String {
    let live = match until {
        Some(until) if until <= subject.now => format!("；现用证书已于 {} 过期（{}）", date(until), ago(subject.now, until)),
        Some(until) => format!("；现用证书将于 {} 到期，{}", date(until), remaining(subject.now, until)),
        None => String::new(),
    };
    format!("{}有一张新证书等您决定：{}{live}。{}", who(subject), listed(successor), take(&successor.id))
}

fn drift(subject: &Subject<'_>, changes: &[String]) -> String {
    let (who, changes) = (who(subject), full_stop(&quote(&changes.join("; ")), '。'));
    format!(
        "{who}的文件被其他人或程序改动，certsyncd 已将其恢复：{changes}如果是您改的，请改为在证书来源处更换证书；如果不是，请查明是谁在写这些文件。"
    )
}

fn provider_down(
    subject: &Subject<'_>,
    certificates: &[String],
    cause: &str,
    hint: Option<&str>,
    first: Option<(&str, Timestamp)>,
) -> String {
    let first = match first {
        Some((name, until)) if until > subject.now => {
            format!("现用证书继续提供服务；最早到期的是 `{name}`，{}（{}）。", date(until), remaining(subject.now, until))
        }
        Some((name, until)) => format!("其中 `{name}` 已于 {} 过期，客户端会拒绝连接。", date(until)),
        None => String::new(),
    };
    let hint = hint.map(|hint| format!("处理办法：{}", full_stop(&quote(hint), '。'))).unwrap_or_default();
    let (host, provider, cause) = (subject.host, provider(subject), full_stop(&quote(cause), '。'));
    let what = match certificates {
        [] => format!("主机 {host} 使用证书来源 {provider} 时出现异常：{cause}"),
        [only] => format!("主机 {host} 上来自 {provider} 的证书 `{only}` 无法更新：{cause}"),
        many => {
            format!("主机 {host} 上来自 {provider} 的 {} 张证书因同一原因无法更新：{cause}涉及：{}。", many.len(), list(many))
        }
    };
    format!("{what}{first}{hint}执行 `certsyncd check --online` 可查看哪些环节正常、哪些异常。")
}

fn config_refused(host: &str, why: &str) -> String {
    format!(
        "主机 {host} 上的新配置无效，仍在使用旧配置：{why}请修改配置文件，直到 `certsyncd check` 通过，再执行 `systemctl reload certsyncd`。在此之前重启服务会失败。"
    )
}

fn ledger_rebuilt(host: &str, why: &str) -> String {
    format!(
        "主机 {host} 上 certsyncd 的运行记录丢失，已根据磁盘上的文件重建：{why}正在使用的证书未受影响。如果不是人为删除，请检查磁盘（`journalctl -k -p err`）。"
    )
}

fn clock_skew(host: &str, why: &str) -> String {
    format!("主机 {host} 的时钟可能不准：{why}时钟恢复正常之前，本机不会发出证书到期告警。请检查 `timedatectl` 和时间同步服务。")
}

fn test(host: &str, channel: &str) -> String {
    format!("这是一条测试告警：有人在主机 {host} 上让 certsyncd 测试通道 `{channel}`。一切正常，无需处理。")
}

fn resolved(subject: &Subject<'_>, over: &Over<'_>) -> String {
    let host = subject.host;
    let who = who(subject);
    let text = match *over {
        Over::Replaced(until) => format!("{who}已换用另一张证书，有效期至 {}（{}）", date(until), remaining(subject.now, until)),
        Over::Valid(until) => format!("{who}恢复为有效，有效期至 {}（{}）", date(until), remaining(subject.now, until)),
        Over::Fetched => format!("{who}已能从 {} 正常获取", provider(subject)),
        Over::Deployed(target) => format!("主机 {host} 上的 `{target}` 已启用全部证书"),
        Over::ProviderBack(provider) => format!("主机 {host} 已能从 `{provider}` 正常获取证书"),
        Over::ClockRight => format!("主机 {host} 的时钟已恢复正常"),
        Over::ConfigAccepted => format!("主机 {host} 的配置已有效并启用"),
        Over::Removed(what) => format!("`{what}` 已从主机 {host} 的配置中移除，不再监控"),
    };
    format!("已恢复：{text}。无需处理。")
}

/// What a person does about a certificate that ends.
fn next(subject: &Subject<'_>, way: &Way<'_>) -> String {
    if let Some(successor) = way.successor {
        return format!("有一张新证书等您决定：{}。{}", listed(successor), take(&successor.id));
    }
    let id = subject.id.map(|id| format!("（ID `{id}`）")).unwrap_or_default();
    let order = format!(
        "请到 {} 续期该证书{id}；续期后 certsyncd 会在下一轮自动安装（除非条目的 `successor` 另有设置），也可立即执行 `certsyncd sync {}`。",
        provider(subject),
        subject.certificate.unwrap_or_default()
    );
    let misses = match way.near_misses {
        [] => String::new(),
        misses => format!("已发现但不能安装的新证书：{}", full_stop(&quote(&misses.join("; ")), '。')),
    };
    let error =
        way.error.map(|error| format!("最近一次获取失败：{}", full_stop(&quote(&error.to_string()), '。'))).unwrap_or_default();
    format!("{order}{misses}{error}")
}

fn listed(successor: &SuccessorNote) -> String {
    let until = successor.not_after.as_ref().map(|until| format!("（标明有效期至 {until}）")).unwrap_or_default();
    format!("`{}`{until}", successor.id)
}

fn take(id: &str) -> String {
    format!("如需启用，请在该条目中写入 `id = \"{id}\"`（或 `successor = \"adopt\"`），再执行 `systemctl reload certsyncd`。")
}

fn who(subject: &Subject<'_>) -> String {
    let Some(name) = subject.certificate else { return format!("主机 {} 上的 certsyncd ", subject.host) };
    let names = match shown(subject.names, subject.certificate) {
        (names, _) if names.is_empty() => String::new(),
        (names, 0) => format!("（{}）", names.join("、")),
        (names, more) => format!("（{} 等 {} 个域名）", names.join("、"), names.len() + more),
    };
    format!("主机 {} 上的证书 `{name}`{names}", subject.host)
}

fn provider(subject: &Subject<'_>) -> String {
    subject.provider.map_or_else(|| "证书来源".to_owned(), |provider| format!("`{provider}`"))
}

fn list(names: &[String]) -> String {
    let (shown, more) = shown(names, None);
    let text = shown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("、");
    if more == 0 { text } else { format!("{text} 等 {} 张", names.len()) }
}

fn remaining(now: Timestamp, until: Timestamp) -> String {
    if until <= now { "已到期".to_owned() } else { format!("还剩{}", span(now, until)) }
}

fn ago(now: Timestamp, ended: Timestamp) -> String {
    distance(ended, now).map_or_else(|| "刚刚".to_owned(), |_| format!("{}前", span(ended, now).trim_start()))
}

fn span(from: Timestamp, to: Timestamp) -> String {
    match distance(from, to) {
        Some((count, Unit::Day)) => format!(" {count} 天"),
        Some((count, Unit::Hour)) => format!(" {count} 小时"),
        Some((count, Unit::Minute)) => format!(" {count} 分钟"),
        None => "不到 1 分钟".to_owned(),
    }
}
