// Command files tries what programs do with the files of a volume, one fact a line, so that two runtimes can be compared. It also
// starts threads.
//
//	files try FOLDER          what a program finds: holes, appends, maps, links, times, names, locks
//	files hold FILE           holds locks of both kinds until its input ends, and says so
//	files take FILE           whether both kinds of locks can be had, without waiting
//	files wait FILE           waits for a lock of each kind, and says so
//	files threads COUNT       so many threads at once
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: files try|hold|take|wait PATH | files threads COUNT")
		os.Exit(2)
	}
	path := os.Args[2]
	switch os.Args[1] {
	case "try":
		try(path)
	case "threads":
		threads(must(strconv.Atoi(path)))
	case "hold":
		file := open(path)
		fmt.Println("flock:", word(syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)), "record:", word(record(file, syscall.F_SETLK)))
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "take":
		file := open(path)
		fmt.Println("flock:", word(syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)), "record:", word(record(file, syscall.F_SETLK)))
	case "wait":
		file := open(path)
		fmt.Println("waits")
		fmt.Println("flock:", word(syscall.Flock(int(file.Fd()), syscall.LOCK_EX)), "record:", word(record(file, syscall.F_SETLKW)))
	}
}

func threads(count int) {
	var started, ended sync.WaitGroup
	ended.Add(1)
	for range count {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			started.Done()
			ended.Wait()
		}()
	}
	started.Wait()
	fmt.Println("threads:", count)
}

func open(path string) *os.File {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		fmt.Println("open:", word(err))
		os.Exit(1)
	}
	return file
}

func record(file *os.File, command int) error {
	return syscall.FcntlFlock(file.Fd(), command, &syscall.Flock_t{Type: syscall.F_WRLCK, Len: 8})
}

// word is an error's name without what differs from run to run.
func word(err error) string {
	var number syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &number):
		return number.Error()
	}
	return err.Error()
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("failed:", word(err))
		os.Exit(1)
	}
	return value
}

func try(folder string) {
	folder = filepath.Join(folder, "try")
	fmt.Println("mkdir:", word(os.Mkdir(folder, 0o2775)))
	path := filepath.Join(folder, "file")
	file := open(path)
	holes(file)
	appends(path)
	maps(file)
	names(folder, path, file)
	times(path)
	many(folder)
	fmt.Println("removed:", word(os.RemoveAll(folder)))
}

func holes(file *os.File) {
	must(file.WriteAt([]byte("end"), 1<<20))
	stat := must(file.Stat()).Sys().(*syscall.Stat_t)
	fmt.Println("a hole takes no blocks:", stat.Blocks*512 < 1<<19)
	data, err := file.Seek(0, 3)
	fmt.Println("data begins in the last pages:", data >= 1<<20-65536 && data <= 1<<20, word(err))
	hole, err := file.Seek(0, 4)
	fmt.Println("a hole begins:", hole, word(err))
	fmt.Println("truncate:", word(file.Truncate(10)), must(file.Stat()).Size())
	fmt.Println("allocate:", word(syscall.Fallocate(int(file.Fd()), 0, 0, 8192)), must(file.Stat()).Size())
	fmt.Println("sync:", word(file.Sync()), word(syscall.Fdatasync(int(file.Fd()))))
	_, err = os.OpenFile(file.Name(), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	fmt.Println("exclusive:", word(err))
	direct, err := os.OpenFile(file.Name(), os.O_RDWR|syscall.O_DIRECT, 0)
	fmt.Println("direct:", word(err))
	if err == nil {
		direct.Close()
	}
}

func appends(path string) {
	one, two := must(os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0)), must(os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0))
	for range 100 {
		must(one.WriteString("a\n"))
		must(two.WriteString("b\n"))
	}
	text := must(os.ReadFile(path))
	fmt.Println("appended:", len(text), bytes.Count(text, []byte("a\nb\n")))
	one.Close()
	two.Close()
}

func maps(file *os.File) {
	must(file.WriteAt(bytes.Repeat([]byte("x"), 8192), 0))
	private := must(syscall.Mmap(int(file.Fd()), 0, 8192, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE))
	private[0] = 'p'
	shared, err := syscall.Mmap(int(file.Fd()), 0, 8192, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	fmt.Println("shared map:", word(err))
	shared[1] = 's'
	_, _, number := syscall.Syscall(syscall.SYS_MSYNC, uintptr(ptr(shared)), 8192, syscall.MS_SYNC)
	text := make([]byte, 4)
	must(file.ReadAt(text, 0))
	fmt.Printf("maps: %s, private %c, msync %v\n", text, private[0], number == 0)
	must(file.WriteAt([]byte("w"), 2))
	fmt.Printf("a write shows in the map: %c\n", shared[2])
	fmt.Println("unmap:", word(syscall.Munmap(private)), word(syscall.Munmap(shared)))
}

func names(folder, path string, file *os.File) {
	second := filepath.Join(folder, "second")
	fmt.Println("link:", word(os.Link(path, second)), must(file.Stat()).Sys().(*syscall.Stat_t).Nlink)
	same := must(os.Stat(path)).Sys().(*syscall.Stat_t).Ino == must(os.Stat(second)).Sys().(*syscall.Stat_t).Ino
	fmt.Println("one file of two names:", same)
	fmt.Println("symlink:", word(os.Symlink("second", filepath.Join(folder, "to"))), string(must(os.ReadFile(filepath.Join(folder, "to")))[:1]))
	fmt.Println("rename over:", word(os.Rename(second, path)), word(os.Remove(second)))
	fmt.Println("rename of a folder:", word(os.MkdirAll(filepath.Join(folder, "a/b/c"), 0o755)), word(os.Rename(filepath.Join(folder, "a"), filepath.Join(folder, "z"))),
		word(os.WriteFile(filepath.Join(folder, "z/b/c/deep"), nil, 0o644)))
	fmt.Println("rmdir of a full folder:", word(syscall.Rmdir(filepath.Join(folder, "z"))))
	gone := must(os.CreateTemp(folder, "gone"))
	fmt.Println("unlink:", word(os.Remove(gone.Name())))
	must(gone.WriteString("still"))
	text := make([]byte, 5)
	must(gone.ReadAt(text, 0))
	fmt.Println("an unlinked file:", string(text), must(gone.Stat()).Sys().(*syscall.Stat_t).Nlink)
	gone.Close()
	fmt.Println("pipe:", word(syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600)))
	long := filepath.Join(folder, string(bytes.Repeat([]byte("n"), 256)))
	fmt.Println("a name too long:", word(os.WriteFile(long, nil, 0o644)))
}

func times(path string) {
	when := time.Unix(1_000_000_000, 5)
	fmt.Println("times:", word(os.Chtimes(path, when, when)), must(os.Stat(path)).ModTime().UnixNano())
	fmt.Println("mode and owner:", word(os.Chown(path, 1000, 1001)), word(os.Chmod(path, 0o750|os.ModeSetgid)))
	stat := must(os.Stat(path)).Sys().(*syscall.Stat_t)
	fmt.Printf("%o %d %d\n", stat.Mode, stat.Uid, stat.Gid)
	made := filepath.Join(filepath.Dir(path), "made")
	fmt.Println("attribute:", word(syscall.Setxattr(path, "user.test", []byte("value"), 0)))
	value := make([]byte, 16)
	length, err := syscall.Getxattr(path, "user.test", value)
	fmt.Println("attribute again:", string(value[:max(length, 0)]), word(err))
	must(0, os.WriteFile(made, nil, 0o666))
	stat = must(os.Stat(made)).Sys().(*syscall.Stat_t)
	fmt.Printf("made: %o %d %d\n", stat.Mode, stat.Uid, stat.Gid)
}

func many(folder string) {
	for n := range 1000 {
		must(0, os.WriteFile(filepath.Join(folder, fmt.Sprint("many-", n)), []byte{byte(n)}, 0o644))
	}
	fmt.Println("listed:", len(must(os.ReadDir(folder))))
}
