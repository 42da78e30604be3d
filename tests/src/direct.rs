//! Kernels straight on the software GPU: planned as the library plans them, over addresses and for limits of a
//! test's own, with what each launch did.

use std::ffi::c_void;
use std::slice;
use std::sync::Arc;

use half::{bf16, f16};
use layernorm_host::plan::{self, Launch, Limits, memory_rate};
use layernorm_host::{BackwardPointers, DType, ForwardPointers, Image, Problem, Variant};
use software_gpu::{Checks, Counters, Gpu, Kernel, LaunchConfig, Model, Module, Settings};

/// A device, and the limits that plans for it are made with.
pub struct Direct {
    pub gpu: Gpu,
    pub limits: Limits,
}

/// A launch that was done.
pub struct Done {
    pub launch: Launch,
    pub counters: Counters,
}

/// A launch that can be done.
pub struct Ready {
    kernel: Arc<Kernel>,
    config: LaunchConfig,
    parameters: Vec<u8>,
}

impl Ready {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        self.kernel.name()
    }
}

impl Done {
    /// What the entry's name ends in: `rows_32x4`, `any`, ...
    pub fn variant(&self) -> String {
        self.launch
            .entry
            .variant()
            .map_or("reduce".to_owned(), |variant| variant.to_string())
    }

    /// Blocks that share a row, and a row of partials: those of a cluster.
    pub fn blocks_of_a_row(&self) -> u32 {
        self.launch
            .entry
            .variant()
            .map_or(1, Variant::cluster_blocks)
    }

    /// Bytes that were asked for, as whole sectors, each warp's request by itself.
    pub fn requested(&self) -> u64 {
        self.counters.global_load_sectors * SECTOR
    }

    /// Bytes that were sent, likewise.
    pub fn stored(&self) -> u64 {
        self.counters.global_store_sectors * SECTOR
    }

    /// Bytes that were read at least once.
    pub fn read(&self) -> u64 {
        self.counters.unique_bytes_read.unwrap_or(u64::MAX)
    }

    /// Bytes that were written at least once.
    pub fn written(&self) -> u64 {
        self.counters.unique_bytes_written.unwrap_or(u64::MAX)
    }
}

/// Bytes of a sector, in which memory is asked.
pub const SECTOR: u64 = 32;

impl Direct {
    /// A model by its name, with so many multiprocessors: few make a grid small, so that its blocks go on to
    /// further rows after few. `all_there` is false for memory that is taken as it is touched.
    pub fn new(model: &str, sm_count: u32, all_there: bool) -> Direct {
        let model = Model::by_name(model).expect("a model of the software GPU");
        let limits = Limits {
            max_grid: model.max_grid[0],
            max_block: model.max_threads_per_block,
            sm_count,
            max_shared: model.max_shared_per_block_optin,
            compute_capability: model.compute_capability,
            // Each multiprocessor gets what it gets of the whole device.
            memory_rate: memory_rate(model.memory_clock_khz, model.memory_bus_bits)
                / u64::from(model.sm_count)
                * u64::from(sm_count),
        };
        let mut settings = Settings::default();
        if !all_there {
            // What is known of each byte would be all there, and more than the bytes themselves.
            let mut checks = Checks::ALL;
            checks.initialised = false;
            settings.checks = checks;
            settings.host_bytes = u64::MAX;
        }
        Direct {
            gpu: Gpu::with_settings(model, settings),
            limits,
        }
    }

    /// Memory of so many bytes, 256 aligned: nothing for none.
    pub fn alloc(&self, bytes: usize) -> u64 {
        match bytes {
            0 => 0,
            bytes => self
                .gpu
                .alloc(bytes as u64)
                .expect("memory of the software GPU"),
        }
    }

    /// Memory of so many bytes of which the host gives those that are touched; it holds zeros.
    pub fn alloc_sparse(&self, bytes: u64) -> u64 {
        self.gpu
            .alloc_sparse(bytes)
            .expect("addresses of the software GPU")
    }

    /// Memory of bytes 0x3c, which are ordinary numbers in every dtype.
    pub fn filled(&self, bytes: usize) -> u64 {
        let address = self.alloc(bytes);
        if bytes > 0 {
            let filled = self.gpu.fill(address, &[0x3c], bytes as u64);
            filled.expect("memory of the software GPU");
        }
        address
    }

    /// Values, rounded to a dtype, as a tensor of their own.
    pub fn upload(&self, values: &[f64], dtype: DType) -> u64 {
        let address = self.alloc(values.len() * dtype.size());
        self.write(address, values, dtype);
        address
    }

    /// Values, rounded to a dtype, over what is there.
    pub fn write(&self, address: u64, values: &[f64], dtype: DType) {
        let bytes: Vec<u8> = match dtype {
            DType::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F32 => values
                .iter()
                .flat_map(|&v| (v as f32).to_le_bytes())
                .collect(),
            DType::F16 => values
                .iter()
                .flat_map(|&v| f16::from_f64(v).to_le_bytes())
                .collect(),
            DType::BF16 => values
                .iter()
                .flat_map(|&v| bf16::from_f64(v).to_le_bytes())
                .collect(),
        };
        self.gpu
            .write(address, &bytes)
            .expect("memory of the software GPU");
    }

    /// So many values of a dtype.
    pub fn download(&self, address: u64, len: usize, dtype: DType) -> Vec<f64> {
        let mut bytes = vec![0; len * dtype.size()];
        self.gpu
            .read(address, &mut bytes)
            .expect("memory of the software GPU");
        let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
        let value = |bytes: &[u8]| match dtype {
            DType::F64 => f64::from_bits(u64::from_le_bytes(bytes.try_into().expect("8 bytes"))),
            DType::F32 => {
                f32::from_bits(u32::from_le_bytes(bytes.try_into().expect("4 bytes"))).into()
            }
            DType::F16 => f16::from_bits(half(bytes)).to_f64(),
            DType::BF16 => bf16::from_bits(half(bytes)).to_f64(),
        };
        bytes.chunks_exact(dtype.size()).map(value).collect()
    }

    pub fn free(&self, addresses: &[u64]) {
        for &address in addresses.iter().filter(|address| **address != 0) {
            self.gpu.free(address).expect("memory of the software GPU");
        }
    }

    /// A forward pass; nothing where there are no rows.
    pub fn forward(&self, problem: &Problem, pointers: &ForwardPointers) -> Option<Done> {
        let args = pointers.args(problem).expect("addresses that fit");
        let launch = plan::forward(problem, &args, &self.limits).expect("a plan");
        launch.map(|launch| self.launch(launch, &args.pointers()))
    }

    /// A backward pass's launches, with a workspace of the planned size.
    pub fn backward(&self, problem: &Problem, pointers: &BackwardPointers) -> Vec<Done> {
        let workspace_bytes = plan::workspace_bytes(problem, &self.limits);
        let pointers = BackwardPointers {
            workspace: self.alloc(workspace_bytes),
            workspace_bytes,
            ..*pointers
        };
        let launches = pointers.launches(problem, &self.limits).expect("a plan");
        let mut done = Vec::new();
        for launch in [launches.plan.sums, launches.plan.rows]
            .into_iter()
            .flatten()
        {
            done.push(self.launch(launch, &launches.rows.pointers()));
        }
        if let (Some(few), Some(args)) = (launches.plan.few, &launches.few) {
            done.push(self.launch(few.launch, &args.pointers()));
        }
        if let Some(reduce) = &launches.reduce {
            done.push(self.launch(launches.plan.reduce, &reduce.pointers()));
        }
        self.free(&[pointers.workspace]);
        done
    }

    fn launch(&self, launch: Launch, parameters: &[*const c_void]) -> Done {
        let counters = self.run(&self.ready(&launch, parameters));
        Done { launch, counters }
    }

    /// What a launch takes, loaded. The parameters are a pointer to each, as the ABI's argument structs give them.
    pub fn ready(&self, launch: &Launch, parameters: &[*const c_void]) -> Ready {
        let name = launch.entry.to_string();
        let image = Image::with_kernel(&name, self.limits.compute_capability);
        let image = image.expect("an image has the kernel");
        let ptx = image.kernel(&name).expect("the image has the kernel");
        let module = Module::load(ptx.as_bytes(), &self.gpu).expect("the image loads");
        let kernel = module.kernel(&name).expect("the kernel that was cut out");
        let mut bytes = vec![0; kernel.param_bytes() as usize];
        assert_eq!(kernel.params().len(), parameters.len(), "{name}");
        for (param, from) in kernel.params().iter().zip(parameters) {
            let (at, size) = (param.offset as usize, param.size as usize);
            // SAFETY: `abi`'s argument structs give a pointer to a live field for each parameter, of the entry's
            // own type: a driver reads them by the entry's sizes in the same way.
            let value = unsafe { slice::from_raw_parts(from.cast::<u8>(), size) };
            bytes[at..at + size].copy_from_slice(value);
        }
        kernel.allow_dynamic_shared(launch.shared_bytes);
        kernel.allow_non_portable_cluster(true);
        let config = LaunchConfig {
            grid: [launch.grid, launch.grid_y, 1],
            block: [launch.block, 1, 1],
            dynamic_shared: launch.shared_bytes,
        };
        Ready {
            kernel,
            config,
            parameters: bytes,
        }
    }

    /// Runs it, once more if it ran before.
    pub fn run(&self, ready: &Ready) -> Counters {
        self.gpu
            .launch(&ready.kernel, &ready.config, &ready.parameters)
            .unwrap_or_else(|fault| panic!("{}: {fault}", ready.name()))
    }
}
