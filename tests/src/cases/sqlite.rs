//! The sqlite3 program on a volume, its files checked from outside.

use anyhow::Result;
use eyot_tests::island::Run;
use eyot_tests::package::SQLITE;

use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[case("sqlite/volume", volume).needs(&[SQLITE])];

fn volume(stage: &Stage) -> Result<()> {
    let volume = stage.make_directory("volume")?;
    let database = text(&volume.join("data.db"));
    let run = |statements: &str| stage.run(&Run::new(["sqlite3", &database, statements]).volume(&volume));
    for mode in ["delete", "wal"] {
        run(&format!("pragma journal_mode={mode}; create table {mode}_t(a integer primary key, b text);"))?
            .success()?
            .prints(&format!("{mode}\n"))?;
        let fill = format!(
            "insert into {mode}_t(b) with recursive n(i) as (select 1 union all select i+1 from n where i < 20000) \
             select 'row '||i from n; select count(*), max(b) from {mode}_t;"
        );
        run(&fill)?.success()?.prints("20000|row 9999\n")?;
        let check = format!("pragma integrity_check; select sum(a) from {mode}_t;");
        stage.outside(["sqlite3", &database, &check])?.success()?.prints("ok\n200010000\n")?;
    }
    // A transaction that is not committed leaves nothing.
    run("begin; delete from wal_t; select count(*) from wal_t;")?.success()?.prints("0\n")?;
    run("select count(*) from wal_t;")?.success()?.prints("20000\n")?;
    run("create index i on wal_t(b); vacuum; analyze; pragma integrity_check;")?.success()?.prints("ok\n")?;
    Ok(())
}
