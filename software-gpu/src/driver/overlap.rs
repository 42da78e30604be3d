//! What the last launch on each stream touched, for the launch behind it that may begin before it has ended.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::handles::Handle;
use crate::exec::Footprint;

/// By context and stream: the numbers of the default streams are the same in every context.
type Last = HashMap<(Handle, Handle), Footprint>;

static LAST: Mutex<Option<Last>> = Mutex::new(None);

fn last() -> MutexGuard<'static, Option<Last>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last work on the stream is a launch that touched this.
pub(super) fn keep(context: &Context, stream: Handle, touched: Footprint) {
    let key = (context.handle, stream);
    last().get_or_insert_default().insert(key, touched);
}

/// What the launch touched that is the last work on the stream.
pub(super) fn take(context: &Context, stream: Handle) -> Option<Footprint> {
    last().as_mut()?.remove(&(context.handle, stream))
}

/// The last work on the stream is none that another may overlap.
pub(super) fn forget(context: &Context, stream: Handle) {
    take(context, stream);
}

/// All work of the context has ended.
pub(super) fn forget_all(context: &Context) {
    if let Some(last) = last().as_mut() {
        last.retain(|(owner, _), _| *owner != context.handle);
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;

    use super::super::entry::*;
    use super::super::error::Code;
    use super::super::tests::{TestContext, alloc};

    const OK: u32 = 0;
    const FAILED: u32 = 719;

    /// Kernels of a block of 64 threads, `%rd3` being a thread's own word. `write` fills the words; others read them and
    /// write what they read behind them: having waited, all threads or the first warp before a barrier; or without.
    /// `overwrites` writes them without having waited, and `own` what nobody else touches.
    const KERNELS: [(&str, &str); 6] = [
        (
            "write",
            "st.global.u32 [%rd3], %r1; griddepcontrol.launch_dependents;",
        ),
        (
            "waits",
            "griddepcontrol.wait; ld.global.u32 %r2, [%rd3]; st.global.u32 [%rd3+256], %r2;",
        ),
        (
            "waits_in_a_warp",
            "setp.ge.u32 %p1, %r1, 32; @%p1 bra $BEHIND; griddepcontrol.wait; $BEHIND: bar.sync 0; \
             ld.global.u32 %r2, [%rd3]; st.global.u32 [%rd3+256], %r2;",
        ),
        (
            "forgets",
            "ld.global.u32 %r2, [%rd3]; griddepcontrol.wait; st.global.u32 [%rd3+256], %r2;",
        ),
        ("overwrites", "st.global.u32 [%rd3], %r1;"),
        ("own", "st.global.u32 [%rd3+512], %r1;"),
    ];

    /// The kernels as a module, with a zero at its end.
    fn text() -> String {
        let kernels = KERNELS.map(|(name, body)| {
            format!(
                ".visible .entry {name}(.param .u64 p)\n{{\n\
                 .reg .pred %p<2>; .reg .b32 %r<3>; .reg .b64 %rd<4>;\n\
                 ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x;\n\
                 mul.wide.u32 %rd2, %r1, 4; add.u64 %rd3, %rd1, %rd2;\n\
                 {body}\nret;\n}}\n"
            )
        });
        let head = ".version 7.8\n.target sm_90\n.address_size 64\n";
        format!("{head}{}\0", kernels.concat())
    }

    /// Launches of a module's kernels over one block of 64 threads.
    struct Kernels {
        module: usize,
        memory: u64,
    }

    impl Kernels {
        fn load() -> Kernels {
            let mut module = 0;
            let text = text();
            // SAFETY: the text ends in a zero.
            let code = unsafe { cuModuleLoadData(&mut module, text.as_ptr()) };
            assert_eq!(code, OK);
            let memory = alloc(1024);
            Kernels { module, memory }
        }

        /// On a stream; `overlaps` the launch before if that is said.
        fn launch(&self, name: &str, overlaps: Option<bool>, stream: usize) -> u32 {
            let (mut function, name) = (0, format!("{name}\0"));
            // SAFETY: the name ends in a zero.
            let code = unsafe { cuModuleGetFunction(&mut function, self.module, name.as_ptr()) };
            assert_eq!(code, OK);
            let mut parameters = [std::ptr::from_ref(&self.memory).cast_mut().cast()];
            let Some(overlaps) = overlaps else {
                // SAFETY: the kernel has this one parameter.
                return unsafe {
                    let parameters = parameters.as_mut_ptr();
                    cuLaunchKernel(
                        function,
                        1,
                        1,
                        1,
                        64,
                        1,
                        1,
                        0,
                        stream,
                        parameters,
                        null_mut(),
                    )
                };
            };
            let attribute = [6, u64::from(overlaps), 0, 0, 0, 0, 0, 0, 0u64];
            let config = [
                1 | 1 << 32,
                1 | 64 << 32,
                1 | 1 << 32,
                0,
                stream as u64,
                attribute.as_ptr().addr() as u64,
                1,
            ];
            attribute.as_ptr().expose_provenance();
            // SAFETY: a `CUlaunchConfig` of the kernel's one parameter.
            unsafe {
                let parameters = parameters.as_mut_ptr();
                cuLaunchKernelEx(config.as_ptr().cast(), function, parameters, null_mut())
            }
        }

        /// `write`, and then another that may begin before it has ended.
        fn overlapped(&self, name: &str) -> u32 {
            assert_eq!(self.launch("write", None, 0), OK);
            self.launch(name, Some(true), 0)
        }
    }

    #[test]
    fn what_has_waited_or_touches_its_own_may_overlap() {
        let _context = TestContext::new();
        let kernels = Kernels::load();
        for name in ["waits", "waits_in_a_warp", "own"] {
            assert_eq!(kernels.overlapped(name), OK, "{name}");
        }
    }

    #[test]
    fn what_has_not_waited_is_a_fault() {
        for name in ["forgets", "overwrites"] {
            let _context = TestContext::new();
            let kernels = Kernels::load();
            assert_eq!(kernels.overlapped(name), FAILED, "{name}");
            let words = super::super::last_fault().unwrap();
            let expected = "the launch before wrote it and may still run";
            assert!(words.contains(expected) && words.contains(name), "{words}");
        }
    }

    #[test]
    fn reads_of_the_launch_before_count_as_well() {
        let _context = TestContext::new();
        let kernels = Kernels::load();
        assert_eq!(kernels.launch("write", None, 0), OK);
        assert_eq!(kernels.launch("waits", None, 0), OK);
        assert_eq!(kernels.launch("overwrites", Some(true), 0), FAILED);
        let words = super::super::last_fault().unwrap();
        assert!(words.contains("the launch before read it"), "{words}");
    }

    #[test]
    fn nothing_overlaps_unless_it_is_said_and_can() {
        let _context = TestContext::new();
        let kernels = Kernels::load();
        let write = || assert_eq!(kernels.launch("write", None, 0), OK);
        write();
        assert_eq!(kernels.launch("forgets", None, 0), OK);
        write();
        assert_eq!(kernels.launch("forgets", Some(false), 0), OK);
        write();
        // SAFETY: no pointers.
        assert_eq!(unsafe { cuCtxSynchronize() }, OK);
        assert_eq!(kernels.launch("forgets", Some(true), 0), OK);
        write();
        // SAFETY: no pointers.
        assert_eq!(unsafe { cuStreamSynchronize(0) }, OK);
        assert_eq!(kernels.launch("forgets", Some(true), 0), OK);
        write();
        // SAFETY: the memory is as long.
        let code = unsafe { cuMemsetD32Async(kernels.memory + 768, 0, 8, 0) };
        assert_eq!(code, OK);
        assert_eq!(
            kernels.launch("forgets", Some(true), 0),
            OK,
            "behind a fill"
        );
        // Another stream's launch is none before.
        let mut stream = 0;
        // SAFETY: `stream` is writable.
        assert_eq!(unsafe { cuStreamCreate(&mut stream, 1) }, OK);
        write();
        assert_eq!(kernels.launch("forgets", Some(true), stream), OK);
        // SAFETY: no pointers.
        assert_eq!(unsafe { cuStreamDestroy_v2(stream) }, OK);
    }

    #[test]
    fn a_graph_keeps_what_may_overlap() {
        let _context = TestContext::new();
        let kernels = Kernels::load();
        let (mut stream, mut graph, mut executable) = (0, 0, 0);
        // SAFETY: what is written to is writable.
        unsafe {
            assert_eq!(cuStreamCreate(&mut stream, 1), OK);
            for (name, expected) in [("waits", OK), ("forgets", FAILED)] {
                assert_eq!(cuStreamBeginCapture_v2(stream, 2), OK);
                assert_eq!(kernels.launch("write", None, stream), OK);
                assert_eq!(kernels.launch(name, Some(true), stream), OK);
                assert_eq!(cuStreamEndCapture(stream, &mut graph), OK);
                let flags = 0;
                assert_eq!(
                    cuGraphInstantiateWithFlags(&mut executable, graph, flags),
                    OK
                );
                assert_eq!(cuGraphLaunch(executable, stream), expected, "{name}");
            }
        }
    }

    #[test]
    fn a_graph_overlaps_nothing_outside_of_it() {
        let _context = TestContext::new();
        let kernels = Kernels::load();
        let (mut stream, mut graph, mut executable) = (0, 0, 0);
        // SAFETY: what is written to is writable.
        unsafe {
            assert_eq!(cuStreamCreate(&mut stream, 1), OK);
            assert_eq!(cuStreamBeginCapture_v2(stream, 2), OK);
            assert_eq!(kernels.launch("forgets", Some(true), stream), OK);
            assert_eq!(cuStreamEndCapture(stream, &mut graph), OK);
            assert_eq!(cuGraphInstantiateWithFlags(&mut executable, graph, 0), OK);
            assert_eq!(kernels.launch("write", None, stream), OK);
            assert_eq!(cuGraphLaunch(executable, 0), OK);
            assert_eq!(kernels.launch("overwrites", Some(true), stream), OK);
        }
    }

    #[test]
    fn a_launch_behind_one_that_overlaps_may_overlap_both() {
        let _context = TestContext::new();
        let kernels = Kernels::load();
        assert_eq!(kernels.overlapped("own"), OK);
        assert_eq!(kernels.launch("forgets", Some(true), 0), FAILED);
    }

    #[test]
    fn it_needs_sm_90() {
        let _context = TestContext::new();
        for (old, new) in [
            (".target sm_90", ".target sm_80"),
            ("7.8", "7.7"),
            ("wait;", "hold;"),
        ] {
            let text = text().replacen(old, new, 1);
            let mut module = 0;
            // SAFETY: the text ends in a zero.
            let code = unsafe { cuModuleLoadData(&mut module, text.as_ptr()) };
            assert_eq!(code, Code::INVALID_PTX.0, "{new}");
        }
    }
}
