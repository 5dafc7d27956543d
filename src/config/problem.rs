//! What is wrong with a configuration, and where.

use std::ops::Range;

/// One thing that is wrong (or, as a warning, unwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the value, such as `certificate[1].successor`.
    pub at: String,
    /// What is wrong, what was found, what is expected.
    pub message: String,
    /// What would mend it.
    pub hint: Option<String>,
    /// Bytes of the file it is about.
    pub span: Option<Range<usize>>,
}
