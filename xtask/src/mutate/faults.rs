//! The faults, as text that is put in the place of other text. Each is a mistake that somebody who changes this code
//! could make.

use anyhow::{Result, bail};
use cuda_builder::NvvmArch;

use Kind::{Clusters, Device, Host, Older};

/// One planted mistake.
#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    /// What is then wrong.
    pub what: &'static str,
    pub kind: Kind,
    /// The file, from the repository's root.
    pub file: &'static str,
    /// Text that the file has once.
    find: &'static str,
    /// What is put there.
    put: &'static str,
}

/// What has to be built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The PTX of sm_80's image, which has almost all kernels.
    Device,
    /// The PTX of sm_75's image: kernels that only a device with little shared memory comes to.
    Older,
    /// The PTX of sm_90's image: the kernels of clusters, and those that wait for the launch before.
    Clusters,
    /// The library.
    Host,
}

impl Kind {
    /// The image that such faults are in, and the software GPU's device that runs it.
    pub fn arch_and_model(self) -> (NvvmArch, &'static str) {
        match self {
            Kind::Device | Kind::Host => (NvvmArch::Compute80, "a100"),
            Kind::Older => (NvvmArch::Compute75, "t4"),
            Kind::Clusters => (NvvmArch::Compute90, "h100"),
        }
    }
}

impl Fault {
    /// The file's text with the fault in it.
    pub fn planted(&self, text: &str) -> Result<String> {
        replaced(text, self.find, self.put)
    }
}

/// Replaces what must be there exactly once.
pub fn replaced(text: &str, find: &str, put: &str) -> Result<String> {
    match text.matches(find).count() {
        1 => Ok(text.replacen(find, put, 1)),
        count => bail!("this is there {count} times and not once: {find}"),
    }
}

const fn fault(
    name: &'static str,
    what: &'static str,
    kind: Kind,
    file: &'static str,
    find: &'static str,
    put: &'static str,
) -> Fault {
    Fault {
        name,
        what,
        kind,
        file,
        find,
        put,
    }
}

pub const FAULTS: &[Fault] = &[
    fault(
        "dropped-barrier",
        "the barrier between writing the warps' sums and reading them is gone",
        Device,
        "kernels-gpu/src/reduce.rs",
        "    // SAFETY: the caller's.\n    unsafe { team.sync() };\n    if warps <= 8",
        "    if warps <= 8",
    ),
    fault(
        "slot-not-alternated",
        "two sums after one another use the same shared memory with one barrier between them",
        Device,
        "kernels-gpu/src/backward.rs",
        "*slot ^= 1;",
        "*slot ^= 0;",
    ),
    fault(
        "wrong-lane-in-shuffle",
        "the butterfly's first distance is twice what it should be, into the next row's lanes",
        Device,
        "kernels-gpu/src/reduce.rs",
        "{ LANES / 2 } else { 16 }",
        "{ LANES } else { 16 }",
    ),
    fault(
        "half-a-warp-summed",
        "the butterfly over a whole warp starts at 8",
        Device,
        "kernels-gpu/src/reduce.rs",
        "{ LANES / 2 } else { 16 }",
        "{ LANES / 2 } else { 8 }",
    ),
    fault(
        "rstd-read-for-mean",
        "backward takes rstd for mean",
        Device,
        "kernels-gpu/src/backward.rs",
        "load_f32_shared(self.mean.wrapping_add(row as usize), valid)",
        "load_f32_shared(self.rstd.wrapping_add(row as usize), valid)",
    ),
    fault(
        "variance-by-n-minus-1",
        "the variance is divided by n_cols - 1",
        Device,
        "kernels-gpu/src/forward.rs",
        "rstd(squares * p.inv_n, shift, p.eps)",
        "rstd(ext::div_approx(squares, p.n_cols as f32 - 1.0), shift, p.eps)",
    ),
    fault(
        "padding-lane-counted",
        "lanes without a column count as a zero in the variance",
        Device,
        "kernels-gpu/src/forward.rs",
        "if valid(k) { mean } else { 0.0 }",
        "mean + 0.0 * k as f32",
    ),
    fault(
        "last-vector-left-out",
        "a row's last vector is neither read nor written",
        Device,
        "kernels-gpu/src/forward.rs",
        "row_is_there && place.column(k) < p.n_cols",
        "row_is_there && place.column(k) + (E as u32) < p.n_cols",
    ),
    fault(
        "row-mask-dropped",
        "lanes past the last row read",
        Device,
        "kernels-gpu/src/forward.rs",
        "row_is_there && column < p.n_cols",
        "column < p.n_cols",
    ),
    fault(
        "row-mask-dropped-in-backward",
        "lanes past the last row copy x and dy in",
        Device,
        "kernels-gpu/src/backward.rs",
        "                row < p.n_rows && place.column(k) < p.n_cols,\n            );\n            // SAFETY: the row and the column exist, at",
        "                place.column(k) < p.n_cols,\n            );\n            // SAFETY: the row and the column exist, at",
    ),
    fault(
        "eps-outside-the-root",
        "1 / (sqrt(var) + eps)",
        Device,
        "kernels-gpu/src/forward.rs",
        "ext::rsqrt_approx(var + eps)",
        "ext::div_approx(1.0, ext::div_approx(1.0, ext::rsqrt_approx(var)) + eps)",
    ),
    fault(
        "mean-keeps-its-rounding",
        "what rounding the mean left over is not taken off",
        Device,
        "kernels-gpu/src/forward.rs",
        "[rstd, -shift * rstd]",
        "[rstd, 0.0]",
    ),
    fault(
        "no-pivot",
        "the general kernel takes moments about 0 and not about an element of the row",
        Device,
        "kernels-gpu/src/any.rs",
        "let pivot = a.min(b).max(a.max(b).min(c));",
        "let pivot = 0.0;",
    ),
    fault(
        "first-is-pivot",
        "the general kernel takes moments about the row's first element, which may be far from all others",
        Device,
        "kernels-gpu/src/any.rs",
        "let pivot = a.min(b).max(a.max(b).min(c));",
        "let pivot = a;",
    ),
    fault(
        "stale-workspace",
        "a block's first row is added to what the workspace held",
        Older,
        "kernels-gpu/src/any.rs",
        "there && !is_first",
        "there",
    ),
    fault(
        "earlier-row-lost",
        "a block's later rows replace in its partials what the earlier ones left there",
        Older,
        "kernels-gpu/src/any.rs",
        "there && !is_first",
        "false",
    ),
    fault(
        "last-partial-left-out",
        "the sum over the partials ends one early",
        Device,
        "kernels-gpu/src/partials.rs",
        "while row < p.n_partials {",
        "while row + 1 < p.n_partials {",
    ),
    fault(
        "two-blocks-one-partial",
        "two blocks write the same row of partials",
        Device,
        "kernels-gpu/src/partials.rs",
        "row as usize * n_cols as usize)\n}",
        "(row / 2) as usize * n_cols as usize)\n}",
    ),
    fault(
        "teams-at-one-barrier",
        "the teams of a block wait at the same barrier, which as many threads open as one has",
        Device,
        "kernels-gpu/src/team.rs",
        "(1 + self.index)",
        "(1)",
    ),
    fault(
        "teams-in-one-slot",
        "the teams of a block put their sums over a row into the same shared memory",
        Device,
        "kernels-gpu/src/reduce.rs",
        "slot.offset(team.index * warps)",
        "slot.offset(team.index / 32)",
    ),
    fault(
        "last-team-left-out",
        "a block's row of partials is without its last team's sums",
        Device,
        "kernels-gpu/src/partials.rs",
        "if team + i < teams {",
        "if team + i + 1 < teams {",
    ),
    fault(
        "teams-not-waited-for",
        "a block adds up its teams' sums without waiting for all of them",
        Device,
        "kernels-gpu/src/partials.rs",
        "    thread::sync_threads();\n    // Both arrays",
        "    // Both arrays",
    ),
    fault(
        "copies-over-sums",
        "copies for rows that there are not may still come where the teams' sums are",
        Device,
        "kernels-gpu/src/backward.rs",
        "            stage::wait::<1>();\n            let sums",
        "            let sums",
    ),
    fault(
        "dbias-for-dweight",
        "the sum over the partials takes dbias's for dweight",
        Device,
        "kernels-gpu/src/partials.rs",
        "(p.partial_dweight, p.dweight)",
        "(p.partial_dbias, p.dweight)",
    ),
    fault(
        "accumulate-ignored",
        "dweight and dbias are replaced where they should be added to",
        Device,
        "kernels-gpu/src/partials.rs",
        "valid && p.accumulate != 0",
        "valid && p.accumulate == 2",
    ),
    fault(
        "dsum-ignored",
        "the gradient that is to be added to dx is not",
        Device,
        "kernels-gpu/src/backward.rs",
        "            incoming[i],\n",
        "            0.0 * incoming[i],\n",
    ),
    fault(
        "earlier-row-counts",
        "where a row has no columns, what an earlier row left in its place is added up",
        Device,
        "kernels-gpu/src/backward.rs",
        "            g_xhat_sum = before;\n",
        "            g_xhat_sum = 1.0 * g_xhat_sum;\n",
    ),
    fault(
        "weights-crossed",
        "the two halves of a vector's weights change places",
        Device,
        "kernels-gpu/src/kept.rs",
        "let four_values = unsafe { self.own.load4(Self::place::<E>(k, four)) };",
        "let four_values = unsafe { self.own.load4(Self::place::<E>(k, E / 4 - 1 - four)) };",
    ),
    fault(
        "dy-not-cleared",
        "what is after dy in shared memory is not zero",
        Device,
        "kernels-gpu/src/ragged.rs",
        "unsafe { image.store4(i * WORDS, [0; 4]) };",
        "unsafe { image.store4(i * WORDS, [0x3f80_3f80; 4]) };",
    ),
    fault(
        "wrong-stride",
        "dx is written at dy's row stride",
        Device,
        "kernels-gpu/src/backward.rs",
        "let dx = p.dx.wrapping_add((row * p.dx_stride) as usize);",
        "let dx = p.dx.wrapping_add((row * p.dy_stride) as usize);",
    ),
    fault(
        "32-bit-offset",
        "a row's place is computed in 32 bits",
        Device,
        "kernels-gpu/src/forward.rs",
        "let x = p.x.wrapping_add((row * p.x_stride) as usize);\n        let mut raw",
        "let x = p.x.wrapping_add((row * p.x_stride) as u32 as usize);\n        let mut raw",
    ),
    fault(
        "weight-not-in-dx",
        "dx's own term is dy and not dy * weight",
        Device,
        "kernels-gpu/src/backward.rs",
        "ext::fma(g[i], weight[i], -c1)",
        "g[i] - c1",
    ),
    fault(
        "dx-without-its-projection",
        "the part of dx along xhat stays in",
        Device,
        "kernels-gpu/src/backward.rs",
        "ext::fma(-xhat, c2, ",
        "ext::fma(-xhat, 0.0 * c2, ",
    ),
    fault(
        "bf16-cut-off",
        "bf16 results are cut off instead of rounded",
        Device,
        "kernels-gpu/src/convert.rs",
        "cvt.rn.bf16x2.f32 {word}",
        "cvt.rz.bf16x2.f32 {word}",
    ),
    fault(
        "f16-cut-off",
        "f16 results are cut off instead of rounded",
        Device,
        "kernels-gpu/src/convert.rs",
        "cvt.rn.f16x2.f32 {word}",
        "cvt.rz.f16x2.f32 {word}",
    ),
    fault(
        "rows-counted-twice",
        "the kernel by columns takes every fourth row again",
        Device,
        "kernels-gpu/src/columns.rs",
        "first += ROWS_AT_A_TIME as u64 * step;",
        "first += (ROWS_AT_A_TIME as u64 - 1) * step;",
    ),
    fault(
        "stage-not-turned",
        "a long row is read from the slot of the row before",
        Device,
        "kernels-gpu/src/shared_row.rs",
        "            stage ^= 1;",
        "            stage ^= 0;",
    ),
    fault(
        "reduce-does-not-wait",
        "the second kernel reads the partials while the first may still write them",
        Clusters,
        "kernels-gpu/src/partials.rs",
        "    ext::wait_for_dependencies();\n",
        "",
    ),
    fault(
        "cluster-wait-dropped",
        "a block reads the other blocks' sums without waiting for them",
        Clusters,
        "kernels-gpu/src/cluster.rs",
        "unsafe { Self::arrivals(self.slot()).wait(self.turn / SLOTS) };",
        "let _ = self.turn / SLOTS;",
    ),
    fault(
        "cluster-phase-not-turned",
        "a slot that is used again is waited for in the phase of its first use",
        Clusters,
        "kernels-gpu/src/cluster.rs",
        ".wait(self.turn / SLOTS)",
        ".wait(0)",
    ),
    fault(
        "cluster-slot-too-few",
        "sums are sent to a slot that another block may still read",
        Clusters,
        "kernels-gpu/src/cluster.rs",
        "const SLOTS: u32 = 4;",
        "const SLOTS: u32 = 2;",
    ),
    fault(
        "cluster-block-left-out",
        "the sums are not sent to the last block",
        Clusters,
        "kernels-gpu/src/cluster.rs",
        "if thread < CLUSTER {",
        "if thread < CLUSTER - 1 {",
    ),
    fault(
        "cluster-share-one-off",
        "every block but the first starts a vector late",
        Clusters,
        "kernels-gpu/src/cluster.rs",
        "let first = rank * most;",
        "let first = rank * most + (rank > 0) as u32;",
    ),
    fault(
        "cluster-last-share-lost",
        "the row's mean is without the last block's columns",
        Clusters,
        "kernels-gpu/src/cluster_forward.rs",
        "for b in 0..CLUSTER {\n            offset",
        "for b in 0..CLUSTER - 1 {\n            offset",
    ),
    fault(
        "cluster-columns-as-the-first",
        "the last block's columns count as many as the first block's",
        Clusters,
        "kernels-gpu/src/cluster_forward.rs",
        "if b == CLUSTER - 1 {\n            self.rest",
        "if b == CLUSTER {\n            self.rest",
    ),
    fault(
        "cluster-sums-of-fewer",
        "dx is made of the sums of all blocks but the last",
        Clusters,
        "kernels-gpu/src/cluster_backward.rs",
        "for rank in 0..CLUSTER {",
        "for rank in 0..CLUSTER - 1 {",
    ),
    fault(
        "wide-next-row-too-early",
        "of a row over 16 blocks, a place that is free is given the next row's vector, which another has already",
        Clusters,
        "kernels-gpu/src/cluster_wide.rs",
        "ask(place, row + STAGES as u64 * place.step, stage, k);",
        "ask(place, row + place.step, stage, k);",
    ),
    fault(
        "wide-dweight-of-a-row",
        "dweight's sums in shared memory are a row's and not all rows'",
        Clusters,
        "kernels-gpu/src/cluster_wide.rs",
        "of_weight[i] = ext::fma(g[i], xhat, of_weight[i]);",
        "of_weight[i] = g[i] * xhat;",
    ),
    fault(
        "one-row-another-kernel",
        "a row alone gets another kernel than the same row among others",
        Host,
        "layernorm-host/src/plan.rs",
        "let aligned = is_aligned(&addresses) && is_aligned(&strides);\n    let mut kernel",
        "let aligned = problem.n_rows() > 1 && is_aligned(&addresses) && is_aligned(&strides);\n    let mut kernel",
    ),
    fault(
        "1-over-n-plus-1",
        "the host passes 1 / (n_cols + 1)",
        Host,
        "layernorm-host/src/pointers.rs",
        "(1.0 / problem.n_cols() as f64) as f32",
        "(1.0 / (problem.n_cols() + 1) as f64) as f32",
    ),
    fault(
        "cpu-tail-left-out",
        "the CPU's mean leaves out what is no whole tile",
        Host,
        "layernorm-host/src/cpu/forward.rs",
        "            add_up(simd, tile.pair(simd, k), k, &mut sums);\n",
        "            let _ = (&tile, k);\n",
    ),
    fault(
        "cpu-nan-dropped",
        "a NaN in a row becomes a variance of 0 on the CPU",
        Host,
        "layernorm-host/src/cpu/forward.rs",
        "let var = if var < 0.0 { 0.0 } else { var as f32 };",
        "let var = var.max(0.0) as f32;",
    ),
    fault(
        "cpu-dx-without-its-projection",
        "the part of dx along xhat stays in, on the CPU",
        Host,
        "layernorm-host/src/cpu/gradients.rs",
        "simd.mul_add_e_f32s(xhat, *less_dxhat_xhat, inner)",
        "simd.mul_add_e_f32s(xhat, simd.splat_f32s(0.0), inner)",
    ),
];
