//! alert
pub mod error;
pub mod filter;
pub mod message;
pub mod rules;
pub use error::Error;
