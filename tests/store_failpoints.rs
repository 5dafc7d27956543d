//! Crash injection.
