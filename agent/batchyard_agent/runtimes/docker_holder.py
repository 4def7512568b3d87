"""
The holder: a container that does nothing but own what several share.

Its image is made here, of one program of some hundred bytes, so that it needs no
registry, no compiler and no network. The program waits for signals for ever: it ends on
SIGTERM and SIGINT, and reaps children, whose parent it is where all of a task's processes
are in its PID namespace. It blocks these signals and waits for them by
rt_sigtimedwait(2), since of signals without a handler the kernel drops those to the first
process of a namespace unless they are blocked.

Sources: System V ABI and Linux system call tables (x86-64: arch/x86/entry/syscalls,
arm64: include/uapi/asm-generic/unistd.h); Arm Architecture Reference Manual, A64; elf(5).
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile

PROGRAM = "/hold"
_MASK = 1 << (15 - 1) | 1 << (2 - 1) | 1 << (17 - 1)
"""SIGTERM, SIGINT and SIGCHLD, as the kernel's set of 8 bytes."""

_X86_64 = bytes.fromhex(
    "b80e000000"  # 00  mov  eax, 14               rt_sigprocmask(
    "31ff"  # 05        xor  edi, edi                SIG_BLOCK,
    "488d355e000000"  # 07 lea rsi, [rip+0x5e]       mask, at 6c
    "31d2"  # 0e        xor  edx, edx                NULL,
    "41ba08000000"  # 10 mov r10d, 8                 8)
    "0f05"  # 16        syscall
    "b880000000"  # 18  wait: mov eax, 128         rt_sigtimedwait(
    "488d3d48000000"  # 1d lea rdi, [rip+0x48]       mask, at 6c
    "31f6"  # 24        xor  esi, esi                NULL,
    "31d2"  # 26        xor  edx, edx                NULL,
    "41ba08000000"  # 28 mov r10d, 8                 8)
    "0f05"  # 2e        syscall
    "85c0"  # 30        test eax, eax
    "78e4"  # 32        js   wait                  interrupted
    "83f811"  # 34      cmp  eax, 17               SIGCHLD?
    "751e"  # 37        jne  end
    "b83d000000"  # 39  reap: mov eax, 61          wait4(
    "48c7c7ffffffff"  # 3e mov rdi, -1               any,
    "31f6"  # 45        xor  esi, esi                NULL,
    "ba01000000"  # 47  mov  edx, 1                  WNOHANG,
    "4531d2"  # 4c      xor  r10d, r10d              NULL)
    "0f05"  # 4f        syscall
    "85c0"  # 51        test eax, eax
    "7fe4"  # 53        jg   reap
    "ebc1"  # 55        jmp  wait
    "b8e7000000"  # 57  end: mov eax, 231          exit_group(
    "31ff"  # 5c        xor  edi, edi                0)
    "0f05"  # 5e        syscall
    "000000000000000000000000"  # 60  room up to 6c
) + struct.pack("<Q", _MASK)


def _aarch64() -> bytes:
    """Assemble the same program of 32-bit words, in which jumps and addresses count from themselves."""
    words = [
        _movz(8, 135),  # 00           rt_sigprocmask(
        _movz(0, 0),  # 01               SIG_BLOCK,
        _adr(1, 30 - 2),  # 02           mask, at word 30
        _movz(2, 0),  # 03               NULL,
        _movz(3, 8),  # 04               8)
        _SVC,  # 05
        _movz(8, 137),  # 06     wait: rt_sigtimedwait(
        _adr(0, 30 - 7),  # 07           mask,
        _movz(1, 0),  # 08               NULL,
        _movz(2, 0),  # 09               NULL,
        _movz(3, 8),  # 10               8)
        _SVC,  # 11
        _cmp(0, 0),  # 12
        _b_if(_LT, 6 - 13),  # 13      interrupted
        _cmp(0, 17),  # 14             SIGCHLD?
        _b_if(_NE, 25 - 15),  # 15
        _movz(8, 260),  # 16     reap: wait4(
        _movn(0, 0),  # 17               any (-1),
        _movz(1, 0),  # 18               NULL,
        _movz(2, 1),  # 19               WNOHANG,
        _movz(3, 0),  # 20               NULL)
        _SVC,  # 21
        _cmp(0, 0),  # 22
        _b_if(_GT, 16 - 23),  # 23
        _b(6 - 24),  # 24
        _movz(8, 94),  # 25       end: exit_group(
        _movz(0, 0),  # 26               0)
        _SVC,  # 27
        _NOP,  # 28
        _NOP,  # 29                    room up to the mask
    ]
    return struct.pack(f"<{len(words)}I", *words) + struct.pack("<Q", _MASK)


_SVC, _NOP = 0xD4000001, 0xD503201F
_NE, _LT, _GT = 0b0001, 0b1011, 0b1100


def _movz(register: int, value: int) -> int:
    return 0xD2800000 | value << 5 | register


def _movn(register: int, value: int) -> int:
    return 0x92800000 | value << 5 | register


def _cmp(register: int, value: int) -> int:
    """Compare the register's lower 32 bits, in which the kernel's answers are."""
    return 0x71000000 | value << 10 | register << 5 | 31


def _adr(register: int, words: int) -> int:
    return 0x10000000 | (words & 0x7FFFF) << 5 | register


def _b(words: int) -> int:
    return 0x14000000 | words & 0x3FFFFFF


def _b_if(condition: int, words: int) -> int:
    return 0x54000000 | (words & 0x7FFFF) << 5 | condition


_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _aarch64())}
"""ELF's numbers of machines, and the code."""
_BASE, _HEADERS = 0x400000, 64 + 56


def program(architecture: str) -> bytes:
    """
    Return a static executable of one segment.

    Raises:
        KeyError: there is none for this architecture, a name of the kernel's such as ``x86_64``.
    """
    machine, code = _MACHINES[architecture]
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)  # 64 bits, little endian, version 1, System V
    # Executable (2); entry behind the headers; one program header at 64; no sections.
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    # To be loaded (1), to be read and executed (4 | 1), as a whole, at a multiple of the largest page.
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + code


def image(architecture: str) -> str:
    """
    Return the name and tag of the image of an architecture; another program has another tag.

    Raises:
        KeyError: as ``program``.
    """
    return f"batchyard-holder:{hashlib.sha256(program(architecture)).hexdigest()[:12]}"


def archive(architecture: str) -> bytes:
    """
    Return a file system with the program alone in it, as a tar file.

    Raises:
        KeyError: as ``program``.
    """
    code = program(architecture)
    entry = tarfile.TarInfo(PROGRAM.lstrip("/"))
    entry.size, entry.mode = len(code), 0o755
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(entry, io.BytesIO(code))
    return out.getvalue()
