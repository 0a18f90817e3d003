//! A disk of PostgreSQL's own: an ext4 image on a loop device, which can be full, and can lose everything that was not
//! flushed, as in a power loss. Needs root and Linux; elsewhere these two faults are skipped, with the reason.
//! Must never outlive the test process. Called by `stage` and `faults`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the image may grow to; it is sparse.
const BYTES_MAX: &str = "6G";
/// Takes the disk down again when its standard input ends, as soon as PostgreSQL has let go of it.
const WATCH: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  umount "$1" 2>/dev/null && break
  sleep 0.5
done
rm -rf "$2" "${1%/data}"
"#;
/// FS_IOC_SHUTDOWN, NOLOGFLUSH: from here on nothing reaches the disk, not even the file system's own journal.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

#[derive(Debug)]
pub(super) struct Disk {
    image: PathBuf,
    at: PathBuf,
    watch: Child,
}

impl Disk {
    /// Mounts a fresh disk at `data` below `home`; the reason where that cannot be.
    pub(super) fn mount(home: &Path, owner: Option<(u32, u32)>) -> Result<Disk, String> {
        let Some((uid, gid)) = owner else { return Err("it needs root".to_owned()) };
        let image = home.with_extension("img");
        let at = home.join("data");
        fs::create_dir(&at).map_err(|error| error.to_string())?;
        let (image_text, at_text) = (image.to_str().unwrap(), at.to_str().unwrap());
        let made = run("truncate", &["-s", BYTES_MAX, image_text])
            .and_then(|()| run("mkfs.ext4", &["-q", "-F", image_text]))
            .and_then(|()| run("mount", &["-o", "loop", image_text, at_text]));
        if let Err(reason) = made {
            let _ = (fs::remove_file(&image), fs::remove_dir(&at));
            return Err(reason);
        }
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH, "sh", at_text, image_text]).stdin(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut watch, 0);
        let disk = Disk { watch: watch.current_dir("/").spawn().unwrap(), image, at };
        // initdb wants an empty directory.
        fs::remove_dir(disk.at.join("lost+found")).unwrap();
        std::os::unix::fs::chown(&disk.at, Some(uid), Some(gid)).unwrap();
        Ok(disk)
    }

    /// Fills it to the last block.
    pub(super) fn fill(&self) {
        let filler = self.at.join("filler");
        let filler = filler.to_str().unwrap();
        // Ever smaller pieces, until not one more fits.
        for size in ["1G", "64M", "1M", "4K"] {
            while run("sh", &["-c", &format!("head -c {size} /dev/zero >> {filler}")]).is_ok() {}
        }
    }

    /// Makes room again.
    pub(super) fn clear(&self) {
        fs::remove_file(self.at.join("filler")).unwrap();
    }

    /// From here on nothing that is written is kept.
    pub(super) fn lose_power(&self) {
        run("python3", &["-c", SHUTDOWN, self.at.to_str().unwrap()]).unwrap();
    }

    /// Mounts what had reached the disk; PostgreSQL must be gone.
    pub(super) fn come_back(&self) {
        let at = self.at.to_str().unwrap();
        run("umount", &[at]).unwrap();
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), at]).unwrap();
        let _ = fs::remove_file(self.at.join("filler")); // that it was removed may be among what was lost
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

pub(super) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
