"""sqlite3: in memory, in a file with each journal, several connections and threads."""
import os, sqlite3, sys, threading

memory = sqlite3.connect(":memory:")
memory.execute("create table t(a integer primary key, b text, c real)")
memory.executemany("insert into t(b, c) values(?, ?)", ((f"row {n}", n / 3) for n in range(10000)))
print(memory.execute("select count(*), sum(a), max(b), round(avg(c), 3) from t").fetchone())

for mode in ("delete", "truncate", "persist", "memory", "wal", "off"):
    path = os.path.join(sys.argv[1], f"{mode}.db")
    one = sqlite3.connect(path, timeout=20)
    print(one.execute(f"pragma journal_mode={mode}").fetchone())
    one.execute("create table t(a integer primary key, b blob)")
    for n in range(20):
        with one: one.execute("insert into t(b) values(?)", (bytes([n]) * 5000,))
    two = sqlite3.connect(path, timeout=20)
    print(two.execute("select count(*), sum(length(b)) from t").fetchone())
    one.execute("begin immediate"); one.execute("insert into t(b) values('x')")
    impatient = sqlite3.connect(path, timeout=0.05)
    try:
        impatient.execute("insert into t(b) values('y')")
        print("no conflict")
    except sqlite3.OperationalError as error:
        print(error)
    one.rollback() if mode != "off" else one.commit()
    impatient.close(); two.close()
    print(one.execute("pragma integrity_check").fetchone()); one.close()

path = os.path.join(sys.argv[1], "threads.db")
start = sqlite3.connect(path); start.execute("pragma journal_mode=wal"); start.execute("create table t(a)"); start.commit()
def writer(me):
    mine = sqlite3.connect(path, timeout=60)
    for n in range(25):
        with mine: mine.execute("insert into t values(?)", (me * 1000 + n,))
    mine.close()
writers = [threading.Thread(target=writer, args=(n,)) for n in range(4)]
for one in writers: one.start()
for one in writers: one.join()
print(start.execute("select count(*), sum(a) from t").fetchone()); start.close()
print(sorted(name for name in os.listdir(sys.argv[1]) if not name.endswith("journal")))
print("done")
