//! From a heap of certificates to one path: leaf's issuer first, no root.
//!
//! Start at [`build`]. Who issued whom is decided by name and signature. Where several could have (cross-signed intermediates),
//! one is chosen by a fixed order, so that the same heap always gives the same path. A path never holds a certificate
//! twice and has at most [`MAX_CHAIN`] members, so that circles end.

use std::cmp::Reverse;

use super::x509::Certificate;
use super::{Error, MAX_CHAIN};

/// The path above a leaf.
pub(super) struct Path {
    /// Indices into the heap, leaf's issuer first.
    pub members: Vec<usize>,
    /// What is missing, in words.
    pub gaps: Vec<String>,
}

/// Climbs from `leaf` through `heap` until a root (which is left out) or until no issuer is there.
pub(super) fn build(leaf: &Certificate, heap: &[Certificate]) -> Result<Path, Error> {
    let mut members: Vec<usize> = Vec::new();
    let mut top = leaf;
    while !top.is_self_signed() {
        let Some(next) = issuer(top, leaf, heap, &members) else {
            return Ok(Path { gaps: gaps(top, leaf, heap, &members), members });
        };
        let Some(found) = heap.get(next) else { break };
        if found.is_self_signed() {
            break;
        }
        if members.len() == MAX_CHAIN {
            return Err(Error::ChainTooLong);
        }
        members.push(next);
        top = found;
    }
    Ok(Path { members, gaps: Vec::new() })
}

/// The issuer of `top`. Several: first those that outlive the leaf, then a cross-signed one rather than a root (older clients
/// know the other root), then the one that lasts longest, then the smallest in bytes.
fn issuer(top: &Certificate, leaf: &Certificate, heap: &[Certificate], members: &[usize]) -> Option<usize> {
    let candidates = heap.iter().enumerate().filter(|(index, candidate)| {
        let fresh = !members.contains(index) && candidate.der != leaf.der && candidate.der != top.der;
        fresh && top.names_as_issuer(candidate) && top.was_signed_by(candidate)
    });
    candidates
        .min_by_key(|(_, candidate)| {
            let ends_early = candidate.not_after < leaf.not_after;
            (ends_early, candidate.is_self_signed(), Reverse(candidate.not_after), candidate.der.clone())
        })
        .map(|(index, _)| index)
}

/// Why the path ends at `top`, when that cannot be right. An intermediate whose issuer is not there may well be signed by a root,
/// which no server sends; but not when other authorities came along that nobody needed.
fn gaps(top: &Certificate, leaf: &Certificate, heap: &[Certificate], members: &[usize]) -> Vec<String> {
    let impostor = heap.iter().any(|other| top.names_as_issuer(other) && other.der != top.der && !top.was_signed_by(other));
    let unused = heap.iter().enumerate().filter(|(index, other)| {
        let in_path = members.contains(index) || members.iter().filter_map(|i| heap.get(*i)).any(|used| used.same_subject(other));
        other.is_ca && !in_path && other.der != leaf.der
    });
    let unused: Vec<String> = unused.map(|(_, other)| other.subject()).collect();
    let missing = format!("the certificate of {}, which issued {}, is missing", top.issuer(), top.subject());
    if impostor {
        vec![format!("the certificate of {} that came did not sign {}", top.issuer(), top.subject())]
    } else if !unused.is_empty() {
        vec![format!("{missing}; what came instead is not in its chain: {}", unused.join("; "))]
    } else if members.is_empty() {
        vec![missing]
    } else {
        Vec::new()
    }
}
