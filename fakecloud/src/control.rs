//! The control endpoint.
use crate::shared::Shared;
use crate::wire::{Call, Reply};

pub(crate) fn answer(_shared: &Shared, _call: &Call) -> Reply {
    Reply::new(404, "text/plain", "")
}
