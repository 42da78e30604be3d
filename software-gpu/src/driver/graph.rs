//! Graphs: work that a stream's capture wrote down, done again at each launch, in the order of the capture,
//! which has every piece of work behind what it waits for.
//!
//! Graphs come from captures alone: none is built node by node.

use std::sync::Arc;

use super::capture::submit;
use super::context;
use super::error::{Code, Outcome};
use super::ffi::put;
use super::handles::{Handle, Registry, fresh};
use super::overlap;
use super::stream;

/// One piece of work.
pub(super) type Work = Arc<dyn Fn() -> Outcome + Send + Sync>;

struct Graph {
    context: Handle,
    work: Vec<Work>,
}

static GRAPHS: Registry<Graph> = Registry::new();
/// What `cuGraphInstantiate` makes; its work is the graph's.
static EXECUTABLE: Registry<Graph> = Registry::new();

pub(super) fn insert(context: Handle, work: Vec<Work>) -> Handle {
    let handle = fresh();
    GRAPHS.insert(handle, Arc::new(Graph { context, work }));
    handle
}

pub(super) fn destroy_of(context: Handle) {
    GRAPHS.remove_where(|graph| graph.context == context);
    EXECUTABLE.remove_where(|graph| graph.context == context);
}

/// `CUDA_GRAPH_INSTANTIATE_FLAG_*` that change nothing here: memory freed at launch, upload, the node's
/// own priorities. The one for launches from the device is not among them.
const FLAGS: u64 = 1 | 2 | 8;

pub(super) unsafe fn cuGraphInstantiateWithFlags(
    out: *mut usize,
    graph: usize,
    flags: u64,
) -> Outcome {
    context::current()?;
    if out.is_null() || flags & !FLAGS != 0 {
        return Err(Code::INVALID_VALUE);
    }
    let graph = GRAPHS.get(graph)?;
    let handle = fresh();
    EXECUTABLE.insert(handle, graph);
    // SAFETY: not null, and so writable by the driver API's contract.
    unsafe { put(out, handle) }
}

pub(super) unsafe fn cuGraphInstantiate_v2(
    out: *mut usize,
    graph: usize,
    _error_node: *mut usize,
    _log: *mut u8,
    _log_size: usize,
) -> Outcome {
    // SAFETY: passed on unchanged. A captured graph has no error to write about.
    unsafe { cuGraphInstantiateWithFlags(out, graph, 0) }
}

/// On a stream that is being captured, the work becomes part of that graph.
pub(super) fn cuGraphLaunch(handle: usize, on: usize) -> Outcome {
    let graph = EXECUTABLE.get(handle)?;
    let context = context::current()?;
    submit(on, move || {
        // Its launches are in an order of their own, under the streams that they were captured on.
        overlap::forget_all(&context);
        let outcome = graph.work.iter().try_for_each(|work| work());
        overlap::forget_all(&context);
        outcome
    })
}

/// There is nothing to bring to the device before the launch.
pub(super) fn cuGraphUpload(handle: usize, on: usize) -> Outcome {
    EXECUTABLE.get(handle)?;
    stream::to_work_in(on).map(drop)
}

pub(super) fn cuGraphExecDestroy(handle: usize) -> Outcome {
    EXECUTABLE.remove(handle).map(drop)
}

/// What was instantiated from it lives on.
pub(super) fn cuGraphDestroy(handle: usize) -> Outcome {
    GRAPHS.remove(handle).map(drop)
}
