//! Which checks a device makes beyond those that every access has.

/// The checks that can be switched off. Bounds and alignment cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checks {
    /// Reads of memory that nothing wrote.
    pub initialised: bool,
    /// Races in shared memory.
    pub shared_races: bool,
    /// Races between blocks in global memory.
    pub global_races: bool,
    /// Barriers that threads exited without reaching.
    pub barriers: bool,
    /// Shuffles and votes whose mask names lanes that are not there.
    pub lanes: bool,
    /// Not a check: the counts that cost time, of sectors and bank conflicts.
    pub counters: bool,
}

impl Checks {
    /// Every check.
    pub const ALL: Checks = Checks {
        initialised: true,
        shared_races: true,
        global_races: true,
        barriers: true,
        lanes: true,
        counters: true,
    };

    /// Only what costs next to nothing: barriers and member masks.
    pub const MEMORY: Checks = Checks {
        initialised: false,
        shared_races: false,
        global_races: false,
        barriers: true,
        lanes: true,
        counters: false,
    };

    /// Bounds and alignment alone.
    pub const OFF: Checks = Checks {
        initialised: false,
        shared_races: false,
        global_races: false,
        barriers: false,
        lanes: false,
        counters: false,
    };

    /// The set of that name: `off`, `memory` or `all`.
    pub fn by_name(name: &str) -> Option<Checks> {
        match name {
            "off" => Some(Checks::OFF),
            "memory" => Some(Checks::MEMORY),
            "all" => Some(Checks::ALL),
            _ => None,
        }
    }
}

impl Default for Checks {
    fn default() -> Checks {
        Checks::ALL
    }
}
