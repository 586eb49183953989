//! What a seed draws: settings and small limits, weather, clients, and which faults happen when.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use crate::limits::Limits;
use crate::memory::Budget;
use crate::ownership::fence::Tokens;
use crate::placement::{HashedPart, Method, Placement, Server as Owner};
use crate::proxy::settings::{BackendSettings, Process, ReadErrors, Rejoin, Settings};
use crate::time::Time;

use super::clients::{Ending, Habits, Menu, Reading};
use super::lies::Lies;
use super::network::{Door, DoorState};
use super::random::Random;
use super::requests::Speech;
use super::weather::Weather;

/// What a seed is mainly about. Faults of other kinds are mixed in, but for the calm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing goes wrong: no request may fail.
    Calm,
    /// The network splits, stalls and breaks.
    Network,
    /// Clients that drip, do not read, vanish.
    SlowClients,
    /// Backends answer late.
    Late,
    /// A backend is frozen and thawed every half second.
    Flapping,
    /// A backend is frozen once, for longer.
    Freeze,
    /// Backends end and start again, empty.
    Restart,
    /// A backend's machine is gone, and comes back.
    Silent,
    /// A backend sends what no memcached does.
    Lies,
    /// Connects are refused, slow, or go nowhere; accepts are late.
    Connects,
    /// Small limits everywhere.
    Limits,
    /// The end comes in the middle of it.
    Drain,
    /// Everything at once.
    Mixed,
    /// Backends are ejected and return, and workers learn of it at different times.
    Eject,
}

const PROFILES: [Profile; 15] = [
    Profile::Calm,
    Profile::Network,
    Profile::SlowClients,
    Profile::Late,
    Profile::Flapping,
    Profile::Freeze,
    Profile::Restart,
    Profile::Silent,
    Profile::Lies,
    Profile::Connects,
    Profile::Limits,
    Profile::Drain,
    Profile::Mixed,
    Profile::Eject,
    Profile::Eject,
];

/// A fault that happens at some time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Freeze(usize),
    Thaw(usize),
    /// True: nobody is told.
    Die(usize, bool),
    Start(usize),
    Door(usize, DoorState),
    /// A link of this backend breaks.
    BreakLink(usize),
    BreakClient,
    /// No descriptor is left for a while: clients that come wait for so long.
    HoldAccepts(Duration),
    Drain(Duration),
}

/// A seed, drawn.
pub(super) struct Plan {
    pub(super) profile: Profile,
    pub(super) settings: Arc<Settings>,
    pub(super) names: Vec<Vec<u8>>,
    pub(super) menu: Menu,
    pub(super) habits: Vec<Habits>,
    pub(super) weather: Weather,
    pub(super) doors: Vec<Door>,
    /// By backend.
    pub(super) lies: Vec<Lies>,
    /// Backends are late once in so many looks, and for how long.
    pub(super) late: usize,
    pub(super) late_max: Duration,
    pub(super) faults: Vec<(Time, Fault)>,
    /// When faults stop.
    pub(super) stop: Time,
}

/// One of each kind: our own, a ring, a list and pymemcache's scores.
const METHODS: [Method; 4] =
    [Method::Rendezvous, Method::LibmemcachedKetama, Method::Gomemcache, Method::Pymemcache];

/// By method and number of backends less one. Tables of a million slots take milliseconds to make; one of
/// each is enough.
static PLACEMENTS: LazyLock<Vec<Vec<Arc<Placement>>>> = LazyLock::new(|| {
    let placement = |method, count| {
        let owners: Vec<_> = (0..count).map(|backend| Owner::named(backend_name(backend), 1)).collect();
        Arc::new(Placement::new(method, HashedPart::default(), &owners).expect("equal servers suit all"))
    };
    METHODS.iter().map(|&method| (1..=BACKENDS_MAX).map(|count| placement(method, count)).collect()).collect()
});

const BACKENDS_MAX: usize = 4;

/// The same without those that are away, each made once.
pub(super) fn table(home: &Placement, away: &[bool]) -> Arc<Placement> {
    type Tables = BTreeMap<(usize, Vec<bool>), Arc<Placement>>;
    static TABLES: Mutex<Tables> = Mutex::new(BTreeMap::new());
    let mut tables = TABLES.lock().expect("nobody panics with it");
    // Each of PLACEMENTS stays where it is.
    let of = std::ptr::from_ref(home).addr();
    tables.entry((of, away.to_vec())).or_insert_with(|| Arc::new(home.without(away))).clone()
}

fn backend_name(backend: usize) -> String {
    format!("10.0.0.{}:11211", backend + 1)
}

fn millis(random: &mut Random, low: u64, high: u64) -> Duration {
    Duration::from_millis(random.between(low, high))
}

impl Plan {
    /// What `seed` means.
    pub(super) fn draw(seed: u64, random: &mut Random) -> Plan {
        let profile = PROFILES[(seed % PROFILES.len() as u64) as usize];
        let ejects = profile == Profile::Eject;
        let backends = if ejects { 2 + random.below(3) } else { 1 + random.below(BACKENDS_MAX) };
        let stop = Time(random.between(1_000_000, 4_000_000));
        let limits = limits(profile, random);
        let method = seed as usize / PROFILES.len() % METHODS.len();
        let mut settings = settings(PLACEMENTS[method][backends - 1].clone(), backends, limits, random);
        let short = matches!(profile, Profile::SlowClients | Profile::Mixed) && random.once_in(2);
        if short {
            let bytes = (settings.workers + random.below(6)) * (256 << 10);
            // A fifth is the allocator's.
            settings.memory = Arc::new(Budget::new(bytes + bytes / 4));
            settings.limits.value_max = random.pick(&[20_000, 90_000]);
            settings.limits.client_unread_max = 4 << 20;
            settings.limits.client_requests_max = 4096;
            settings.limits.client_requests_first = 4096;
        }
        let storm = profile == Profile::Restart && random.once_in(2);
        if storm {
            (settings.failure_limit, settings.retry_interval) = (10, Duration::from_millis(2));
        } else if ejects || (EJECTING.contains(&profile) && random.once_in(2)) {
            draw_ejection(&mut settings, ejects, random);
        }
        let settings = Arc::new(settings);
        let mut plan = Plan {
            profile,
            names: names(random),
            menu: menu(profile, &settings, random),
            habits: Vec::new(),
            weather: weather(profile, random),
            doors: (0..backends).map(|backend| door(&settings.backends[backend], random)).collect(),
            lies: lies(profile, backends, random),
            late: 0,
            late_max: settings.timeout * 2,
            faults: Vec::new(),
            stop,
            settings,
        };
        // One that comes back and is slow with what lay in its sockets.
        if matches!(profile, Profile::Late | Profile::Mixed) || (ejects && random.once_in(3)) {
            plan.late = random.pick(&[3, 10, 40]);
        }
        let kinds =
            [(b'k', &mut plan.menu.values), (b'n', &mut plan.menu.numbers), (b'c', &mut plan.menu.counters)];
        for (kind, keys) in kinds {
            let named = plan.names.iter().enumerate().filter(|(_, name)| name[0] == kind);
            keys.extend(named.map(|(key, _)| key));
        }
        for number in 0..3 + random.below(6) {
            plan.habits.push(habits(profile, number, plan.settings.workers, random));
        }
        if short {
            // Large values through a narrow pipe would only be slow.
            plan.weather.window = 64 << 10;
            plan.menu.padding = plan.settings.limits.value_max - 300;
        }
        if storm {
            plan.draw_storm(random);
        } else {
            plan.draw_faults(random);
        }
        plan.menu.patience = plan.patience();
        plan
    }

    fn patience(&self) -> Duration {
        let network = if self.weather.stall > 0 || self.weather.slow_connect > 0 {
            self.weather.stall_max * 8
        } else {
            Duration::ZERO
        };
        let accepts = Duration::from_millis(600);
        // A request that waits for a change has its time again when that is made, or comes to nothing.
        let changes = if self.settings.auto_eject { self.settings.timeout * 3 } else { Duration::ZERO };
        // The way of a large value.
        let bytes = Duration::from_micros(10) * self.menu.padding as u32;
        self.settings.timeout + network + accepts + changes + bytes + Duration::from_millis(400)
    }

    /// How long an ejected backend may stay out without having failed again, beyond its probes: for that it
    /// flaps, then for that it has refused its flush, then for that it has had one.
    pub(super) fn away_max(&self) -> Duration {
        if self.settings.auto_eject { self.settings.cas_fence * 3 } else { Duration::ZERO }
    }

    fn draw_faults(&mut self, random: &mut Random) {
        use Profile as P;
        let (profile, backends) = (self.profile, self.settings.backends.len());
        let is = |profiles: &[Profile]| profiles.contains(&profile);
        if is(&[P::Flapping]) || (is(&[P::Mixed]) && random.once_in(3)) {
            let backend = random.below(backends);
            let mut at = random.between(0, 300_000);
            while at < self.stop.0 {
                self.fault(at, Fault::Freeze(backend));
                self.fault(at + 500_000, Fault::Thaw(backend));
                at += 500_000 + random.pick(&[500_000, 30_000, 200_000]);
            }
        }
        if is(&[P::Freeze, P::Mixed, P::SlowClients]) {
            let (backend, at) = (random.below(backends), self.moment(random));
            self.fault(at, Fault::Freeze(backend));
            self.fault(at + random.between(50_000, 2_000_000), Fault::Thaw(backend));
        }
        if is(&[P::Restart, P::Silent, P::Mixed, P::Lies]) {
            for _ in 0..1 + random.below(4) {
                let (backend, at) = (random.below(backends), self.moment(random));
                let silently = profile == P::Silent || random.once_in(6);
                if random.once_in(3) {
                    // It dies with something in its sockets.
                    self.fault(at.saturating_sub(random.between(1_000, 100_000)), Fault::Freeze(backend));
                }
                self.fault(at, Fault::Die(backend, silently));
                self.fault(at + random.pick(&[1_000, 50_000, 800_000]), Fault::Start(backend));
            }
        }
        if is(&[P::Connects, P::Mixed]) {
            for _ in 0..1 + random.below(3) {
                let (backend, at) = (random.below(backends), self.moment(random));
                let state = random.pick(&[DoorState::Refusing, DoorState::BlackHole]);
                self.fault(at, Fault::Door(backend, state));
                self.fault(at + 1_000, Fault::BreakLink(backend));
                self.fault(at + random.between(10_000, 900_000), Fault::Door(backend, DoorState::Open));
            }
            let at = self.moment(random);
            self.fault(at, Fault::HoldAccepts(millis(random, 20, 500)));
        }
        if is(&[P::Network, P::Connects, P::Mixed, P::Limits]) {
            for _ in 0..random.below(8) {
                let (backend, at) = (random.below(backends), self.moment(random));
                let fault = if random.once_in(2) { Fault::BreakLink(backend) } else { Fault::BreakClient };
                self.fault(at, fault);
            }
        }
        if is(&[P::Eject]) {
            if random.once_in(2) {
                self.draw_crowd(random);
            }
            self.draw_absences(random);
        }
        if is(&[P::Drain]) {
            let (backend, at) = (random.below(backends), self.moment(random));
            self.fault(at / 2, Fault::Freeze(backend));
            self.fault(at, Fault::Drain(millis(random, 10, 900)));
        }
    }

    /// All count with one key, some of them slowly: so tokens of an earlier owner meet the same of a later
    /// one.
    fn draw_crowd(&mut self, random: &mut Random) {
        let (fast, slow) = (random.pick(&[5, 100, 300]), random.pick(&[100, 300, 600]));
        self.menu.counters.truncate(1);
        for (number, habits) in self.habits.iter_mut().enumerate() {
            (habits.counter, habits.depth, habits.ending) = (true, 1, Ending::Stays);
            habits.think = Duration::from_millis(if number % 2 == 0 { fast } else { slow });
        }
    }

    /// Backends are not there for a while, one after the other or two at once, each in its own way.
    fn draw_absences(&mut self, random: &mut Random) {
        let backends = self.settings.backends.len();
        let mut at = random.between(100_000, 300_000);
        if random.once_in(2) {
            // One of them must be kept, though none answers.
            for backend in 0..backends {
                self.fault(at, Fault::Freeze(backend));
                self.fault(at + 900_000, Fault::Thaw(backend));
            }
            at += 1_000_000;
        }
        while at < self.stop.0 {
            let backend = random.below(backends);
            let end = at + random.between(50_000, 700_000);
            let (begin, back) = match random.below(6) {
                0 => (Fault::Die(backend, random.once_in(2)), Fault::Start(backend)),
                1 => {
                    let state = random.pick(&[DoorState::Refusing, DoorState::BlackHole]);
                    self.fault(at, Fault::BreakLink(backend));
                    (Fault::Door(backend, state), Fault::Door(backend, DoorState::Open))
                }
                _ => (Fault::Freeze(backend), Fault::Thaw(backend)),
            };
            self.fault(at, begin);
            self.fault(end, back);
            at = if random.once_in(3) { at } else { end } + random.between(20_000, 500_000);
        }
    }

    /// One counter that all count with, some of them slowly, at a backend that starts again and again: so
    /// tokens of an earlier life meet the same tokens in a later one.
    fn draw_storm(&mut self, random: &mut Random) {
        self.menu.counters.truncate(1);
        for (number, habits) in self.habits.iter_mut().enumerate() {
            (habits.counter, habits.depth, habits.ending) = (true, 1, Ending::Stays);
            (habits.drip, habits.reading) = (None, Reading::Prompt);
            habits.budget = 500;
            habits.think = Duration::from_micros(if number % 2 == 0 { 30_000 } else { 5_000 });
        }
        let owner = self.settings.placement.owner(&self.names[self.menu.counters[0]]);
        let mut at = 100_000;
        while at < self.stop.0 {
            self.fault(at, Fault::Die(owner, false));
            self.fault(at + 500, Fault::Start(owner));
            at += random.between(5_000, 40_000);
        }
    }

    fn fault(&mut self, at: u64, fault: Fault) {
        if at < self.stop.0 {
            self.faults.push((Time(at), fault));
        }
    }

    fn moment(&self, random: &mut Random) -> u64 {
        random.between(10_000, self.stop.0 * 3 / 4)
    }
}

/// Profiles in which backends may be ejected.
const EJECTING: [Profile; 5] =
    [Profile::Flapping, Profile::Freeze, Profile::Restart, Profile::Silent, Profile::Mixed];

/// What makes that happen, and soon: if `often`, several times in a run.
fn draw_ejection(settings: &mut Settings, often: bool, random: &mut Random) {
    settings.auto_eject = true;
    settings.rejoin = random.pick(&[Rejoin::Flush, Rejoin::AsIs]);
    settings.cas_fence = Duration::from_millis(random.pick(&[30, 300, 2_000]));
    // One that could not be kept track of holds its backend off until that is started again.
    settings.limits.retired_links_max = 8;
    settings.limits.written_keys_max = random.pick(&[2, 10_000, 10_000]);
    if often {
        settings.workers = 2 + random.below(3);
        settings.failure_limit = 1 + random.below(2) as u32;
        settings.timeout = millis(random, 20, 100);
        settings.retry_interval = millis(random, 10, 100);
    }
}

fn settings(placement: Arc<Placement>, backends: usize, limits: Limits, random: &mut Random) -> Settings {
    let by_name = random.once_in(4);
    Settings {
        backends: (0..backends)
            .map(|backend| BackendSettings { name: backend_name(backend), by_name })
            .collect(),
        placement,
        workers: random.pick(&[1, 1, 2, 3, 4]),
        max_conns: 1000,
        timeout: millis(random, 20, 400),
        connect_timeout: millis(random, 10, 300),
        failure_limit: 1 + random.below(4) as u32,
        retry_interval: millis(random, 20, 500),
        auto_eject: false,
        rejoin: Rejoin::Flush,
        cas_fence: millis(random, 5_000, 20_000),
        tokens: Arc::new(Tokens::new(random.pick(&[8, 64, 4096]))),
        memory: Arc::new(Budget::new(1 << 30)),
        read_errors: random.pick(&[
            ReadErrors::Error,
            ReadErrors::Error,
            ReadErrors::Miss,
            ReadErrors::MissAll,
        ]),
        join_gets: random.once_in(2),
        flush_all_enabled: !random.once_in(3),
        limits,
        process: Process { id: 7, started: 1_700_000_000, io: "sim" },
    }
}

fn limits(profile: Profile, random: &mut Random) -> Limits {
    let value_max = random.pick(&[1000, 4000, 20_000]);
    let limits = Limits { value_max, get_line_max: 16 << 10, ..Limits::default() };
    if !matches!(profile, Profile::Limits | Profile::SlowClients | Profile::Mixed | Profile::Lies) {
        return limits;
    }
    Limits {
        client_requests_max: random.pick(&[1, 2, 5, 4096]),
        client_requests_first: random.pick(&[1, 16, 4096]),
        client_unread_max: random.pick(&[1, 500, 5_000, 4 << 20]),
        link_requests_max: random.pick(&[3, 10, 50, 1 << 17]),
        link_bytes_max: random.pick(&[500, 5_000, 32 << 20]),
        held_answer_max: random.pick(&[0, 100, 2_000, 1 << 20]),
        window_keys_max: random.pick(&[1, 2, 7, 128]),
        joined_bytes_max: random.pick(&[1, 1_000, 64 << 10]),
        moved_min: random.pick(&[1, 100, 1_000, 16 << 10]),
        retired_links_max: random.pick(&[1, 2, 8]),
        ..limits
    }
}

/// A dozen values, some numbers, two counters.
fn names(random: &mut Random) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    for number in 0..4 + random.below(10) {
        let tail = if random.once_in(12) { "long".repeat(50) } else { String::new() };
        names.push(format!("k{number}{tail}").into_bytes());
    }
    names.extend((0..3).map(|number| format!("n{number}").into_bytes()));
    names.extend((0..2).map(|number| format!("c{number}").into_bytes()));
    names
}

fn menu(profile: Profile, settings: &Settings, random: &mut Random) -> Menu {
    let value_max = settings.limits.value_max;
    Menu {
        values: Vec::new(),
        numbers: Vec::new(),
        counters: Vec::new(),
        padding: if random.once_in(3) { value_max - 300 } else { 60 },
        too_large: value_max + 1 + random.below(200),
        keys: random.pick(&[2, 5, 20]),
        flushes: profile != Profile::Calm && random.once_in(3),
        patience: Duration::ZERO,
    }
}

fn weather(profile: Profile, random: &mut Random) -> Weather {
    let mut weather = Weather { window: random.pick(&[64 << 10, 16 << 10]), ..Weather::good() };
    weather.split = random.pick(&[0, 2, 10]);
    weather.late_send = random.pick(&[0, 3, 20]);
    if profile == Profile::Calm {
        return weather;
    }
    weather.spike = random.pick(&[0, 10, 100]);
    weather.grace = random.pick(&[0, 2]);
    weather.pause = random.pick(&[0, 0, 200]);
    weather.stall_max = millis(random, 10, 800);
    if profile == Profile::Eject || EJECTING.contains(&profile) {
        weather.late_order = random.pick(&[0, 3, 10]);
    }
    match profile {
        Profile::Network | Profile::Mixed => {
            weather.stall = random.pick(&[0, 100, 400]);
            weather.reset = random.pick(&[0, 30, 100, 400]);
            weather.window = random.pick(&[64 << 10, 4 << 10, 300]);
        }
        Profile::Eject => weather.stall = random.pick(&[0, 0, 200]),
        Profile::SlowClients | Profile::Limits => weather.window = random.pick(&[64 << 10, 2 << 10, 200]),
        Profile::Connects => {
            weather.slow_connect = random.pick(&[2, 5]);
            weather.refused = random.pick(&[3, 10]);
            weather.reset = random.pick(&[40, 200]);
        }
        _ => {}
    }
    weather
}

fn door(settings: &BackendSettings, random: &mut Random) -> Door {
    let addresses = if settings.by_name { 1 + random.below(3) } else { 1 };
    Door { state: DoorState::Open, address: random.below(addresses), addresses }
}

fn lies(profile: Profile, backends: usize, random: &mut Random) -> Vec<Lies> {
    let liar = random.below(backends);
    let mut all = vec![Lies::default(); backends];
    if profile == Profile::Lies {
        all[liar].lies = random.pick(&[10, 40]);
    }
    if matches!(profile, Profile::Lies | Profile::Limits | Profile::Mixed) {
        all[random.below(backends)].refusals = 15;
    }
    if matches!(profile, Profile::Eject | Profile::Mixed) && random.once_in(3) {
        all[random.below(backends)].refuses_flush = true;
    }
    all
}

fn habits(profile: Profile, number: usize, workers: usize, random: &mut Random) -> Habits {
    let slow = matches!(profile, Profile::SlowClients | Profile::Mixed) && random.once_in(2);
    let counter = !slow && random.once_in(3);
    let pause = Duration::from_millis(random.pick(&[1, 20, 1000]));
    let reading = match random.below(4) {
        0 if slow => Reading::Never,
        1 if slow => Reading::Dripping(pause),
        _ => Reading::Prompt,
    };
    let ending = match random.below(8) {
        0 if profile != Profile::Calm => Ending::Vanishes,
        1 => Ending::HalfCloses,
        2 => Ending::Quits,
        _ => Ending::Stays,
    };
    let chunk = random.pick(&[1, 30]);
    let ejects = profile == Profile::Eject;
    Habits {
        speech: random.pick(&[Speech::Text, Speech::Text, Speech::Meta, Speech::Binary]),
        depth: if counter { 1 } else { random.pick(&[1, 3, 10, 30]) },
        think: Duration::from_micros(if ejects {
            random.pick(&[1_000, 10_000, 50_000, 300_000])
        } else {
            random.pick(&[0, 500, 20_000, 100_000])
        }),
        drip: (slow && random.once_in(2)).then_some((chunk, pause)),
        reading,
        ending,
        counter,
        budget: if ejects { 400 } else { 20 + random.below(80) },
        stay: 5 + random.below(30),
        worker: number % workers,
    }
}

impl Profile {
    /// Its name in a tally.
    pub(super) fn name(self) -> &'static str {
        match self {
            Profile::Calm => "profile: calm",
            Profile::Network => "profile: network",
            Profile::SlowClients => "profile: slow clients",
            Profile::Late => "profile: late",
            Profile::Flapping => "profile: flapping",
            Profile::Freeze => "profile: freeze",
            Profile::Restart => "profile: restart",
            Profile::Silent => "profile: silent",
            Profile::Lies => "profile: lies",
            Profile::Connects => "profile: connects",
            Profile::Limits => "profile: limits",
            Profile::Drain => "profile: drain",
            Profile::Mixed => "profile: mixed",
            Profile::Eject => "profile: eject",
        }
    }
}
