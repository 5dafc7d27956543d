//! A long inventory, some entries at a time: the TOML of ten thousand, held as a whole, takes more than thirty times its text in memory.
//!
//! Start at [`read`]. The text is cut at lines that begin with `[[certificate]]`, or that end a run of them: into batches, and an
//! [`Outline`], which is all else with the head of each run left in. Each is parsed by itself, on several processors when there are many.
//!
//! There is one opinion on what a text means, that of reading it in one. This gives the same or nothing, and then it is read in one; so
//! whatever is wrong, or written in another form, is told by that alone. That no cut goes through a text or an array is not looked for
//! beforehand but seen afterwards, by four things that all must hold:
//!
//! - The outline is TOML, and each head in it is a table, just where it was put: so it was put between two tables, not into a text.
//! - Each batch is TOML. It begins with its head and ends with a line (or the file): so the next begins between two tables, too. The same
//!   tokens then stand in the same order as in the whole file.
//! - The heads in the outline are the only entries there, and have no keys: so no part of the outline adds to an entry.
//! - A batch has no other tables than entries: so it adds to nothing in the outline.
//!
//! Two demands are on all entries at once, whatever batch they are in: [`Inventory::is_sound`].

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::certificates::{Context, Inventory, MAX_CERTIFICATES};
use super::document::document;
use super::reader::{Reader, Sink};
use super::settings::Settings;
use crate::spread::spread;

/// So many batches, some hundred entries, take longer than a thread to start.
const WORTH_A_THREAD: usize = 3;

/// A batch has at least so many bytes, and ends with the entry in which it reaches them.
pub(super) const SIZE: usize = 16 * 1024;

/// The settings, and what is unwise or secret in them; `None` where anything is wrong, or not of the usual form.
pub(super) fn read(text: &str, path: &Path, size: usize) -> Option<(Settings, Sink)> {
    let Pieces { outline, batches, entries } = cut(text, size);
    if batches.is_empty() || entries > MAX_CERTIFICATES {
        return None;
    }
    let table = DeTable::parse(&outline.text).ok().filter(|table| outline.fits(table.get_ref()))?;
    let (all, of_outline) = (Sink::default(), Sink::default());
    let root = Reader::root(table.get_ref(), &of_outline);
    let settings = document(&root, path, |context| {
        let mut inventory = Inventory::new(context, 0, entries);
        for run in spread(&batches, WORTH_A_THREAD, |run| read_run(text, run, context)) {
            let (next, found) = run?;
            if !inventory.join(next) {
                return None;
            }
            all.absorb(found, |at| at);
        }
        inventory.is_sound().then(|| inventory.certificates())
    })?;
    take_in(&all, of_outline, |at| outline.place(at))?;
    Some((settings, all))
}

fn read_run<'c>(text: &str, run: &[Batch], context: &'c Context<'c>) -> Option<(Inventory<'c>, Sink)> {
    let (mut inventory, all) = (Inventory::new(context, run.first()?.before, 0), Sink::default());
    for Batch { part, .. } in run {
        let table = DeTable::parse(text.get(part.clone())?).ok()?;
        if table.get_ref().keys().any(|key| key.get_ref() != "certificate") {
            return None;
        }
        let sink = Sink::default();
        inventory.read(&Reader::root(table.get_ref(), &sink));
        take_in(&all, sink, |at| part.start + at)?;
    }
    Some((inventory, all))
}

/// What was found in a piece, unless that is a problem.
fn take_in(all: &Sink, piece: Sink, place: impl Fn(usize) -> usize) -> Option<()> {
    let is_fine = piece.problems.borrow().is_empty();
    is_fine.then(|| all.absorb(piece, place))
}

struct Pieces {
    outline: Outline,
    batches: Vec<Batch>,
    /// Heads in all of them.
    entries: usize,
}

struct Batch {
    /// Of the file. It begins with a head.
    part: Range<usize>,
    /// Heads in those before it.
    before: usize,
}

/// The file without what stands under the heads of its entries, and with one head for each run of them.
#[derive(Default)]
struct Outline {
    text: String,
    /// Where each part begins in it, and in the file.
    parts: Vec<(usize, usize)>,
    /// Where the heads are in it.
    heads: Vec<usize>,
}

impl Outline {
    fn push(&mut self, file: &str, part: Range<usize>) {
        self.parts.push((self.text.len(), part.start));
        self.text.push_str(file.get(part).unwrap_or_default());
    }

    /// Whether it has the entries that were put there and no other, and nothing is in them.
    fn fits(&self, table: &DeTable<'_>) -> bool {
        let Some(DeValue::Array(entries)) = table.get("certificate").map(|value| value.get_ref()) else { return false };
        let mut pairs = entries.iter().zip(&self.heads);
        let is_bare = |entry: &DeValue<'_>| entry.as_table().is_some_and(|table| table.is_empty());
        entries.len() == self.heads.len()
            && pairs.all(|(entry, head)| entry.span() == (*head..head + HEAD.len()) && is_bare(entry.get_ref()))
    }

    /// Where in the file is what stands here at `at`.
    fn place(&self, at: usize) -> usize {
        let after = self.parts.partition_point(|(here, _)| *here <= at);
        self.parts.get(after.saturating_sub(1)).map_or(at, |(here, there)| there + (at - here))
    }
}

const HEAD: &str = "[[certificate]]";

/// A line that begins with a bracket.
enum Line {
    /// Of an entry.
    Head,
    /// Of a table in an entry.
    Below,
    /// Any other table's, or no head at all.
    Other,
}

fn cut(text: &str, size: usize) -> Pieces {
    let (mut outline, mut batches, mut entries) = (Outline::default(), Vec::new(), 0);
    // Where the part of the outline begins, or the batch, that is not at its end yet; and the heads before it.
    let (mut from, mut before, mut in_batch) = (0, 0, false);
    for (at, line) in lines(text) {
        match line {
            Line::Head if !in_batch => {
                outline.push(text, from..at + HEAD.len());
                outline.heads.push(outline.text.len() - HEAD.len());
                outline.text.push('\n');
                (from, before, in_batch) = (at, entries, true);
            }
            Line::Head if at - from >= size => {
                batches.push(Batch { part: from..at, before });
                (from, before) = (at, entries);
            }
            Line::Other if in_batch => {
                batches.push(Batch { part: from..at, before });
                (from, in_batch) = (at, false);
            }
            _ => {}
        }
        entries += usize::from(matches!(line, Line::Head));
    }
    if in_batch {
        batches.push(Batch { part: from..text.len(), before });
    } else {
        outline.push(text, from..text.len());
    }
    Pieces { outline, batches, entries }
}

/// Every line that begins with a bracket, and where.
fn lines(text: &str) -> impl Iterator<Item = (usize, Line)> {
    let first = text.starts_with('[').then_some(0);
    let others = text.match_indices("\n[").map(|(at, _)| at + 1);
    first.into_iter().chain(others).map(|at| {
        let line = match text.get(at..).unwrap_or_default() {
            line if line.starts_with(HEAD) => Line::Head,
            line if line.starts_with("[[certificate.") => Line::Below,
            _ => Line::Other,
        };
        (at, line)
    })
}

#[cfg(test)]
mod tests;
