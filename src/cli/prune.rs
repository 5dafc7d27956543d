//! `prune`: removes from disk what left the inventory.

use crate::deploy;
use crate::ledger::Ledger;
use crate::store::lock;
use crate::sync::{LOCK_WAIT, Syncer};

use super::{BUSY, FAILED, OK, print};

pub(super) async fn run(sync: &Syncer, yes: bool) -> u8 {
    let _lock = match lock::pass(sync.store().root(), LOCK_WAIT).await {
        Ok(lock) => lock,
        Err(error) => {
            print::hinted(&error, error.hint());
            return if matches!(error, lock::Error::Held { .. }) { BUSY } else { FAILED };
        }
    };
    match removable(sync).await {
        Err(code) => code,
        Ok(names) if names.is_empty() => {
            print::out("nothing to remove: every certificate on disk is in the inventory");
            OK
        }
        Ok(names) if !yes => {
            names.iter().for_each(|name| print::out(format!("would remove {name}")));
            print::line("run `certsyncd prune --yes` to do it");
            OK
        }
        Ok(names) => remove(sync, &names),
    }
}

/// Names on disk that no entry has and that no server uses.
async fn removable(sync: &Syncer) -> Result<Vec<String>, u8> {
    let on_disk = sync.store().names().map_err(|error| {
        print::hinted(&error, error.hint());
        FAILED
    })?;
    let mut names = Vec::new();
    for name in on_disk.into_iter().filter(|name| sync.settings().certificates.iter().all(|entry| entry.name != *name)) {
        match used(sync, &name).await {
            Some(by) => print::line(format!("warning: keeps `{name}`: {by}")),
            None => names.push(name),
        }
    }
    Ok(names)
}

/// Who still uses a certificate that left the inventory.
async fn used(sync: &Syncer, name: &str) -> Option<String> {
    let live = sync.store().live(name).ok().flatten()?;
    for target in sync.settings().targets.values() {
        let names: Vec<String> = live.bundle.sni().into_iter().collect();
        let seen = deploy::look(&target.verify, &names, target.timeout).await;
        if let Some(seen) = seen.iter().find(|seen| seen.fingerprint == Some(live.bundle.fingerprint())) {
            return Some(format!("`{}` still serves it on {}", target.name, seen.address));
        }
        if let crate::config::TargetKind::Haproxy { socket: Some(socket) } = &target.kind {
            let ours = live.path.canonicalize().ok()?;
            if deploy::loaded(socket, target.timeout).await.unwrap_or_default().iter().any(|file| file.starts_with(&ours)) {
                return Some(format!("`{}` lists it (`show ssl cert`)", target.name));
            }
        }
    }
    None
}

fn remove(sync: &Syncer, names: &[String]) -> u8 {
    let mut code = OK;
    let mut ledger = match Ledger::load(sync.store().root()) {
        // That it had to be rebuilt is for the next pass to tell.
        Ok(loaded) => Ledger { rebuilt: loaded.rebuilt.or(loaded.ledger.rebuilt), ..loaded.ledger },
        Err(error) => {
            print::hinted(&error, error.hint());
            return FAILED;
        }
    };
    for name in names {
        match sync.store().remove(name) {
            Ok(()) => {
                ledger.certificates.remove(name);
                print::out(format!("removed {name}"));
            }
            Err(error) => {
                print::hinted(&error, error.hint());
                code = FAILED;
            }
        }
    }
    if let Err(error) = ledger.save(sync.store().root()) {
        print::hinted(&error, error.hint());
        code = FAILED;
    }
    code
}
