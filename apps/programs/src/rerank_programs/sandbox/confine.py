"""Closing a process from the inside, for good: rlimits, no new privileges, Landlock, seccomp, no capabilities.

Everything here is one-way, inherited by children, and needs no privilege. Standard library only (``ctypes``); on a
system other than Linux the functions report that nothing was closed.

Sources: landlock(7), seccomp(2), prctl(2), capabilities(7); numbers from the kernel's ``asm-generic/unistd.h`` and
``arch/x86/entry/syscalls/syscall_64.tbl``.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_PR_SET_DUMPABLE = 4
_MACHINE = platform.machine()
_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True) if _LINUX else None

# --- Landlock -------------------------------------------------------------------------------------------------

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR, _WRITE_FILE, _TRUNCATE = 1 << 0, 1 << 2, 1 << 3, 1 << 1, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI -> number of file-system rights it knows


def landlock_abi() -> int:
    """Return the kernel's Landlock version, 0 where there is none."""
    if _LIBC is None:
        return 0
    return max(0, int(_LIBC.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


class Landlock:
    """A prepared Landlock rule set; [`apply`][rerank_programs.sandbox.confine.Landlock.apply] is cheap after a fork.

    Parameters
    ----------
    readable, writable
        Files and folders; absent ones are left out. Everything else on the file system is closed, TCP is closed
        (ABI 4), and signals and abstract sockets end at the process's own domain (ABI 6).

    Raises
    ------
    OSError
        When the kernel has no Landlock.
    """

    def __init__(self, readable: Sequence[str], writable: Sequence[str] = ()) -> None:
        abi = landlock_abi()
        if not abi or _LIBC is None:
            raise OSError("no Landlock")
        everything = (1 << _FS_BITS.get(min(abi, 5), 16)) - 1
        net = 0b11 if abi >= 4 else 0
        scoped = 0b11 if abi >= 6 else 0
        attr = struct.pack("=QQQ", everything, net, scoped)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
        self._fd = int(_LIBC.syscall(_LANDLOCK_CREATE, attr, ctypes.c_size_t(len(attr)), ctypes.c_uint32(0)))
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
        os.set_inheritable(self._fd, False)
        for path in readable:
            self._allow(path, _READ & everything)
        for path in writable:
            self._allow(path, everything & ~_EXECUTE)

    def _allow(self, path: str, rights: int) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if not os.path.isdir(path):  # noqa: PTH112 - the workers do without pathlib's import time
                rights &= _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
            rule = struct.pack("=Qi", rights, fd)
            if _LIBC is not None and _LIBC.syscall(_LANDLOCK_ADD, self._fd, 1, rule, ctypes.c_uint32(0)):
                raise OSError(ctypes.get_errno(), f"landlock_add_rule {path}")
        finally:
            os.close(fd)

    def apply(self) -> None:
        """Close the calling thread and its future children. Needs no_new_privs."""
        if _LIBC is None or _LIBC.syscall(_LANDLOCK_RESTRICT, self._fd, ctypes.c_uint32(0)):
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")


# --- seccomp --------------------------------------------------------------------------------------------------

# name -> (x86_64, aarch64); numbers from 424 on are the same on every architecture.
_SYSCALLS: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "quotactl": (179, 60), "personality": (135, 92), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "syslog": (103, 116), "ioperm": (173, None), "iopl": (172, None), "lookup_dcookie": (212, 18),
    "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip
_PROCESS: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
}  # fmt: skip
_CLONE, _CLONE3, _KILL, _TKILL, _TGKILL, _PRLIMIT = (56, 220), (435, 435), (62, 129), (200, 130), (234, 131), (302, 261)
_SCHED = {"sched_setscheduler": (144, 119), "setpriority": (141, 140)}
_ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE_THREAD = 0x10000

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38


def seccomp_available() -> bool:
    """Whether this kernel and architecture take a seccomp filter."""
    if _LIBC is None or _MACHINE not in _ARCH:
        return False
    # A null program: EFAULT means that filters are known, EINVAL that they are not.
    _LIBC.prctl(_PR_SET_SECCOMP, 2, None, 0, 0)
    return ctypes.get_errno() == 14


def _stmt(code: int, k: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, k)


def _jump(code: int, k: int, yes: int, no: int) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k)


def _refuse(number: int | None, error: int = _EPERM) -> list[bytes]:
    if number is None:
        return []
    return [_jump(_JEQ, number, 0, 1), _stmt(_RET, _ERRNO | error)]


def _only_if(number: int, test: int, value: int) -> list[bytes]:
    """Allow a call when the low half of its first argument passes the test, refuse it otherwise."""
    return [
        _jump(_JEQ, number, 0, 4),
        _stmt(_LD, 16),
        _jump(test, value, 0, 1),
        _stmt(_RET, _ALLOW),
        _stmt(_RET, _ERRNO | _EPERM),
    ]


def _filter(pid: int | None) -> list[bytes]:
    """Build the program. ``pid`` None keeps fork, exec and kill; a number allows signals to that process only."""
    column, arch = _ARCH[_MACHINE]
    out = [
        _stmt(_LD, 4),
        _jump(_JEQ, arch, 1, 0),
        _stmt(_RET, _KILL_PROCESS),  # 32-bit calls have other numbers
        _stmt(_LD, 0),
    ]
    if _MACHINE == "x86_64":
        out += [_jump(_JGE, 0x40000000, 0, 1), _stmt(_RET, _ERRNO | _EPERM)]  # the x32 ABI
    for numbers in _SYSCALLS.values():
        out += _refuse(numbers[column])
    out += _only_if(_PRLIMIT[column], _JEQ, 0)  # pid 0: oneself
    if pid is not None:
        for numbers in (_PROCESS | _SCHED).values():
            out += _refuse(numbers[column])
        out += _refuse(_CLONE3[column], _ENOSYS)  # glibc then falls back to clone
        out += _refuse(_TKILL[column])
        out += _only_if(_CLONE[column], _JSET, _CLONE_THREAD)
        out += _only_if(_KILL[column], _JEQ, pid)
        out += _only_if(_TGKILL[column], _JEQ, pid)
    return [*out, _stmt(_RET, _ALLOW)]


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def seccomp(*, final: bool) -> None:
    """Install the filter on this process and its future children.

    Parameters
    ----------
    final
        Also refuse new processes, programs and signals to others; a forking worker uses False for itself and True
        in each child.

    Raises
    ------
    OSError
        When the kernel refuses it.
    """
    program = _filter(os.getpid() if final else None)
    code = b"".join(program)
    fprog = _Program(len(program), code)
    if _LIBC is None or _LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(fprog), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


# --- the rest -------------------------------------------------------------------------------------------------


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


def no_new_privileges() -> None:
    """Make set-uid programs and file capabilities worthless from here on, and this process untraceable."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up every capability, so that root is no more than the owner of its files."""
    if _LIBC is None:
        return
    for capability in range(64):
        if _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) and ctypes.get_errno() == 22:
            break
    header = struct.pack("=Ii", 0x20080522, 0)
    _LIBC.capset(header, struct.pack("=6I", *[0] * 6))


def memory_in_use() -> tuple[int, int]:
    """Return this process's (address space, data) in bytes; a generous guess where /proc is closed."""
    try:
        with open("/proc/self/statm") as f:  # noqa: PTH123
            fields = f.read().split()
        page = os.sysconf("SC_PAGE_SIZE")
        return int(fields[0]) * page, int(fields[5]) * page
    except (OSError, IndexError):
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return resident + (1 << 30), resident + (256 << 20)


def limit_resources(
    *, memory: int, cpu_seconds: int, file_bytes: int, base: tuple[int, int] = (0, 0), files: int = 64
) -> None:
    """Set rlimits.

    Parameters
    ----------
    memory
        Bytes beyond ``base`` (address space, data).
    cpu_seconds
        SIGXCPU, then SIGKILL a second later.
    file_bytes
        Largest file.
    """
    space, data = base
    _lower(resource.RLIMIT_AS, space + memory)
    _lower(resource.RLIMIT_DATA, data + memory)
    _lower(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)
    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_NOFILE, files)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(which: int, soft: int, hard: int | None = None) -> None:
    _, ceiling = resource.getrlimit(which)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))
