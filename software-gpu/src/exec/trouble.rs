//! A fault as the lane that has it sees it; the block adds who and where.

use crate::fault::FaultKind;
use crate::memory::AllocationInfo;

/// A fault before it has a place.
#[derive(Debug)]
pub(super) struct Trouble {
    pub kind: FaultKind,
    pub lane: u32,
    pub address: Option<u64>,
    pub allocation: Option<AllocationInfo>,
    pub detail: String,
    /// The other side: an instruction and a thread, with its block's rank from `shadow::RANK_SHIFT` on.
    pub other: Option<(u32, u32)>,
}

/// The result of something that a lane does.
pub(super) type Outcome<T> = Result<T, Box<Trouble>>;

impl Trouble {
    /// A fault without an address.
    #[cold]
    pub fn new(kind: FaultKind, lane: usize, detail: impl Into<String>) -> Box<Trouble> {
        Box::new(Trouble {
            kind,
            lane: lane as u32,
            address: None,
            allocation: None,
            detail: detail.into(),
            other: None,
        })
    }

    /// A fault of an access.
    #[cold]
    pub fn at(
        kind: FaultKind,
        lane: usize,
        address: u64,
        detail: impl Into<String>,
    ) -> Box<Trouble> {
        let mut trouble = Trouble::new(kind, lane, detail);
        trouble.address = Some(address);
        trouble
    }
}
