//! `list` and `init`: what an account holds, and how it becomes an inventory.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Wanted;
use crate::ledger::Ledger;
use crate::provider::{Client, Listed};
use crate::report::Valid;
use crate::sync::Syncer;

use super::{FAILED, OK, USAGE, print};

/// `list --json`, version 1.
#[derive(Serialize)]
struct Output {
    version: u32,
    certificates: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    provider: String,
    id: String,
    name: Option<String>,
    names: Vec<String>,
    status: Option<String>,
    valid: Option<Valid>,
    not_after: Option<String>,
    used_by: Vec<String>,
}

pub(super) async fn list(sync: &Syncer, provider: Option<&str>, json: bool) -> u8 {
    let Some(clients) = chosen(sync, provider) else { return USAGE };
    let used = used_by(sync);
    let mut rows = Vec::new();
    let mut code = OK;
    for client in clients {
        match listed(client).await {
            Some(certificates) => rows.extend(certificates.into_iter().map(|row| as_row(client.name(), row, &used))),
            None => code = FAILED,
        }
    }
    if json {
        print::json(&Output { version: 1, certificates: rows });
        return code;
    }
    let mut table = print::table(&["provider", "id", "name", "names", "status", "ends", "used by"]);
    for row in &rows {
        let status = row.status.clone().or(row.valid.map(valid_word)).unwrap_or_default();
        table.add_row([
            row.provider.clone(),
            row.id.clone(),
            row.name.clone().unwrap_or_default(),
            row.names.join(" "),
            status,
            row.not_after.clone().unwrap_or_default(),
            row.used_by.join(" "),
        ]);
    }
    if code == OK || !rows.is_empty() {
        print::out(table.to_string());
    }
    code
}

pub(super) async fn init(sync: &Syncer, provider: &str) -> u8 {
    let Some(clients) = chosen(sync, Some(provider)) else { return USAGE };
    let used = used_by(sync);
    let mut code = OK;
    for client in clients {
        let Some(certificates) = listed(client).await else {
            code = FAILED;
            continue;
        };
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        for entry in &sync.settings().certificates {
            names.insert(entry.name.clone(), 1);
        }
        for row in
            certificates.iter().filter(|row| row.deployable && !used.contains_key(&(client.name().to_owned(), row.id.clone())))
        {
            print::out(block(client.name(), row, &mut names));
        }
    }
    code
}

/// The clients meant; `None` (said on stderr) when there is no such provider.
fn chosen<'a>(sync: &'a Syncer, provider: Option<&str>) -> Option<Vec<&'a Client>> {
    match provider {
        None => Some(sync.clients().values().collect()),
        Some(name) => match sync.clients().get(name) {
            Some(client) => Some(vec![client]),
            None => {
                let known = sync.clients().keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                print::line(format!("error: no provider `{name}` in the configuration\nhint: there is {known}"));
                None
            }
        },
    }
}

async fn listed(client: &Client) -> Option<Vec<Listed>> {
    match client.list().await {
        Ok(listing) => {
            for note in &listing.notes {
                print::line(format!("warning: `{}`: {note}", client.name()));
            }
            Some(listing.certificates)
        }
        Err(error) => {
            let failure = error.to_failure().context(format!("failed to list `{}`", client.name()));
            print::line(print::failure(&failure));
            None
        }
    }
}

/// Which entries use which certificate: by the ledger's adopted ids, else by the configured ones.
fn used_by(sync: &Syncer) -> BTreeMap<(String, String), Vec<String>> {
    let ledger = Ledger::peek(sync.store().root()).map(|loaded| loaded.ledger).unwrap_or_default();
    let mut used: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for entry in &sync.settings().certificates {
        let adopted = ledger.certificates.get(&entry.name).and_then(|record| record.id.clone());
        let configured = match &entry.wanted {
            Wanted::Id(id) => Some(id.clone()),
            Wanted::Domain(_) => None,
        };
        if let Some(id) = adopted.or(configured) {
            used.entry((entry.provider.clone(), id)).or_default().push(entry.name.clone());
        }
    }
    used
}

fn as_row(provider: &str, row: Listed, used: &BTreeMap<(String, String), Vec<String>>) -> Row {
    let used_by = used.get(&(provider.to_owned(), row.id.clone())).cloned().unwrap_or_default();
    Row {
        provider: provider.to_owned(),
        id: row.id,
        name: row.name,
        names: row.names,
        status: row.status,
        valid: row.valid,
        not_after: row.not_after,
        used_by,
    }
}

fn valid_word(valid: Valid) -> String {
    match valid {
        Valid::Expired => "expired",
        Valid::Valid => "valid",
        Valid::Expiring => "expiring",
    }
    .to_owned()
}

/// One entry of an inventory, ready to paste.
fn block(provider: &str, row: &Listed, taken: &mut BTreeMap<String, u32>) -> String {
    let wish = row.names.first().cloned().or(row.name.clone()).unwrap_or_else(|| row.id.clone());
    let name = free_name(&entry_name(&wish), taken);
    let names = row.names.iter().map(|name| format!("\"{}\"", name.escape_default())).collect::<Vec<_>>().join(", ");
    let ends = row.not_after.as_deref().map(|end| format!("  # ends {}", end.escape_default())).unwrap_or_default();
    format!(
        "[[certificate]]\nname     = \"{name}\"\nprovider = \"{provider}\"\nid       = \"{}\"{ends}\nnames    = [{names}]\ndeploy   = []\n",
        row.id.escape_default()
    )
}

/// A name as the inventory allows it: `*.example.com` becomes `wildcard.example.com`.
fn entry_name(wish: &str) -> String {
    let plain = wish.replace("*.", "wildcard.");
    let safe: String =
        plain.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' }).collect();
    let safe = safe.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    if safe.is_empty() { "certificate".to_owned() } else { safe }
}

fn free_name(wish: &str, taken: &mut BTreeMap<String, u32>) -> String {
    let count = taken.entry(wish.to_owned()).or_default();
    *count += 1;
    if *count == 1 { wish.to_owned() } else { format!("{wish}-{count}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_are_valid_and_never_twice() {
        let mut taken = BTreeMap::new();
        for (wish, expected) in [
            ("www.example.com", "www.example.com"),
            ("www.example.com", "www.example.com-2"),
            ("*.example.com", "wildcard.example.com"),
            ("例", "certificate"),
        ] {
            assert_eq!(free_name(&entry_name(wish), &mut taken), expected);
        }
    }
}
