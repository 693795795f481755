//! A test case: the program to boot, the machine, and the expected result.

use abi::{ExitStatus, Vector};
use engine::{Disk, End, Request, Run, Testbed};
use grade::rubric::{Rubric, Test};
use libtest_mimic::{Failed, Trial};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use xtask::images::Flavor;
use xtask::machine::{CommandLine, Memory};
use xtask::report::Reset;
use xtask::workspace::root;

/// The number of processors with which a test also runs.
const CPUS: u32 = 4;

type Check = dyn Fn(&Run) + Send + Sync;

/// A test, before it runs.
#[derive(Clone)]
pub struct Case {
    name: String,
    request: Request,
    status: ExitStatus,
    returns_frames: bool,
    flavors: Vec<Flavor>,
    /// Whether the test holds on several processors, too.
    anywhere: bool,
    checks: Vec<Arc<Check>>,
}

/// A test of this program, named after it.
#[must_use]
pub fn guest(program: &str) -> Case {
    named(program, program)
}

/// A test of this program, under another name.
#[must_use]
pub fn named(name: &str, program: &str) -> Case {
    Case {
        name: name.to_owned(),
        request: Request::of(program),
        status: ExitStatus::SUCCESS,
        returns_frames: true,
        flavors: vec![Flavor::Plain, Flavor::Check],
        anywhere: true,
        checks: Vec::new(),
    }
}

/// The test of this name in the rubric. Courses run it as the rubric says; this package runs it like its other tests.
///
/// # Panics
/// There is none, or the rubric has a mistake.
#[must_use]
pub fn graded(name: &str) -> Case {
    let test = RUBRIC.test(name).unwrap_or_else(|| panic!("the rubric has no test `{name}`"));
    from_rubric(name, &test.varied(0))
}

/// The test `test` of the rubric, under another name and with these values for the rubric's variables.
///
/// # Panics
/// See [`graded`].
#[must_use]
pub fn graded_with(name: &str, test: &str, values: &[(&str, String)]) -> Case {
    let test = RUBRIC.test(test).unwrap_or_else(|| panic!("the rubric has no test `{test}`"));
    let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    from_rubric(name, &test.filled(&values))
}

static RUBRIC: LazyLock<Rubric> = LazyLock::new(|| Rubric::load(root()).unwrap_or_else(|error| panic!("{error:#}")));

fn from_rubric(name: &str, test: &Test) -> Case {
    let Request { line, machine, .. } = test.request();
    let mut case = named(name, &line.init);
    case.request.line = CommandLine { limit: None, sign: false, ..line };
    case.request.machine.memory = machine.memory;
    let expected = test.see.clone();
    case.exits(test.status).check(move |run| _ = run.see(&expected))
}

impl Case {
    /// Sets the arguments of the program.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Case {
        self.request.line.args = args.iter().map(ToString::to_string).collect();
        self
    }

    /// Adds one more member to the boot archive.
    #[must_use]
    pub fn file(mut self, name: &str, data: &[u8]) -> Case {
        self.request.files.insert(name.to_owned(), data.to_vec());
        self
    }

    /// Sets the text that is piped to the console; after it, the input ends.
    #[must_use]
    pub fn types(self, input: &str) -> Case {
        self.pipes(input.as_bytes())
    }

    /// Sets the bytes that are piped to the console; after them, the input ends.
    #[must_use]
    pub fn pipes(mut self, input: &[u8]) -> Case {
        self.request.input = Some(input.to_vec());
        self
    }

    /// Sets the amount of memory, as on the command line.
    #[must_use]
    pub fn memory(mut self, size: &str) -> Case {
        self.request.machine.memory = size.parse::<Memory>().expect("a test names a bad size");
        self
    }

    /// Sets the number of processors.
    #[must_use]
    pub fn cpus(mut self, count: u32) -> Case {
        self.request.machine.cpus = count;
        self
    }

    /// Runs the test on one processor only, because its result depends on the schedule.
    #[must_use]
    pub fn one_processor(mut self) -> Case {
        self.anywhere = false;
        self
    }

    /// Adds a disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Case {
        self.request.disks.push(disk);
        self
    }

    /// Sets the model of the processors, in the form of the emulator's `-cpu`.
    #[must_use]
    pub fn processor(mut self, model: &str) -> Case {
        self.request.machine.processor = Some(model.to_owned());
        self
    }

    /// Lets time count instructions.
    #[must_use]
    pub fn icount(mut self) -> Case {
        self.request.machine.icount = true;
        self
    }

    /// Sets the microseconds between timer ticks.
    #[must_use]
    pub fn tick(mut self, microseconds: u64) -> Case {
        self.request.line.tick_us = Some(microseconds);
        self
    }

    /// Puts this word for fault injection on the kernel's command line.
    #[must_use]
    pub fn provoke(mut self, word: &'static str) -> Case {
        self.request.line.provoke = Some(word);
        self
    }

    /// Expects that the kernel panics, because of this word on its command line.
    #[must_use]
    pub fn panics(self, word: &'static str) -> Case {
        self.provoke(word).keeps_frames().exits(ExitStatus::KERNEL_PANIC.0)
    }

    /// Turns off the kernel's lines about environments, of which there would be too many.
    #[must_use]
    pub fn quiet(mut self) -> Case {
        self.request.line.trace = false;
        self
    }

    /// Sets another time limit than the usual two minutes.
    #[must_use]
    pub fn timeout(mut self, seconds: u64) -> Case {
        self.request.timeout = Duration::from_secs(seconds);
        self
    }

    /// Renames the test.
    #[must_use]
    pub fn called(mut self, name: &str) -> Case {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets the expected status; without this, 0.
    #[must_use]
    pub fn exits(mut self, status: u8) -> Case {
        self.status = ExitStatus(status);
        self
    }

    /// Expects that the program is killed by this exception.
    #[must_use]
    pub fn killed_by(self, vector: Vector) -> Case {
        self.exits(ExitStatus::killed_by(vector).0)
    }

    /// Permits that the machine is powered off while frames are in use.
    #[must_use]
    pub fn keeps_frames(mut self) -> Case {
        self.returns_frames = false;
        self
    }

    /// Runs the test under this kernel only.
    #[must_use]
    pub fn only(mut self, flavor: Flavor) -> Case {
        self.flavors = vec![flavor];
        self
    }

    /// Adds a check of the run.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&Run) + Send + Sync + 'static) -> Case {
        self.checks.push(Arc::new(check));
        self
    }

    /// The trials of the test, one for each of its kernels.
    #[must_use]
    pub fn trials(&self, testbed: &Arc<Testbed>) -> Vec<Trial> {
        let trial = |&flavor: &Flavor| {
            let (case, testbed) = (self.clone(), Arc::clone(testbed));
            Trial::test(self.full_name(flavor), move || case.judge(&testbed, flavor))
        };
        let mut trials: Vec<Trial> = self.flavors.iter().map(trial).collect();
        if self.anywhere && self.request.machine.cpus == 1 && !self.request.machine.icount {
            let (case, testbed) = (self.clone().cpus(CPUS), Arc::clone(testbed));
            trials.push(Trial::test(format!("smp::{}", self.name), move || case.judge(&testbed, Flavor::Plain)));
        }
        trials
    }

    fn full_name(&self, flavor: Flavor) -> String {
        match flavor {
            Flavor::Plain => self.name.clone(),
            Flavor::Check => format!("check::{}", self.name),
            Flavor::Count => format!("count::{}", self.name),
        }
    }

    /// Boots the test once, and returns the run, checked or not.
    ///
    /// # Errors
    /// There is no verdict.
    pub fn boot(&self, testbed: &Testbed, flavor: Flavor) -> Result<Run, Failed> {
        testbed
            .boot(flavor, &self.request)
            .map_err(|error| format!("{error:#}\nthis repeats it:\n  {}", self.request.command(flavor)).into())
    }

    /// Boots the test once, and checks everything.
    ///
    /// # Errors
    /// Lists the expectations that were not met.
    pub fn judge(&self, testbed: &Testbed, flavor: Flavor) -> Result<(), Failed> {
        let run = self.boot(testbed, flavor)?;
        run.ends(self.status);
        if self.returns_frames {
            run.frees_frames(self.status);
        }
        self.checks.iter().for_each(|check| check(&run));
        if run.unmet().is_empty() {
            return Ok(());
        }
        let mut failure = testbed.explain(flavor, &self.request, &run);
        failure.hints.extend((run.end == End::Reset).then(|| Reset.to_string()));
        Err(failure.to_string().into())
    }
}
