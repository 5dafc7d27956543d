//! The one place that asks the machine what time it is.
//!
//! Everything that decides by time takes a [`Clock`] or a [`Timestamp`], so that a test decides what "now" is.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// Where "now" comes from: the machine in production, a test's own hand otherwise.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Mutex<Timestamp>>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that stands still at `now` until [`Clock::set`] moves it (clones move along).
    pub fn manual(now: Timestamp) -> Clock {
        Clock(Some(Arc::new(Mutex::new(now))))
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(hand) => *hand.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock; the machine's clock is not ours to move and stays as it is.
    pub fn set(&self, now: Timestamp) {
        if let Some(hand) = &self.0 {
            *hand.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    }
}
