"""Runs a program for which io_uring_setup(2) fails with an errno, as under the seccomp filter of a container:

    without_io_uring.py ERRNO PROGRAM ARGUMENTS...
"""

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
RETURN_ERRNO, RETURN_ALLOW = 0x00050000, 0x7FFF0000
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()]
IO_URING_SETUP = 425  # the same on all architectures that Linux had when it came


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def instruction(code, constant, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, constant)


def main():
    errno = int(sys.argv[1])
    steps = b"".join(
        [
            instruction(LOAD, 4),  # seccomp_data.arch
            instruction(EQUAL, ARCHITECTURE, 0, 3),
            instruction(LOAD, 0),  # seccomp_data.nr
            instruction(EQUAL, IO_URING_SETUP, 0, 1),
            instruction(RETURN, RETURN_ERRNO | errno),
            instruction(RETURN, RETURN_ALLOW),
        ]
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(steps) // 8, steps)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        sys.exit("no seccomp filter: " + os.strerror(ctypes.get_errno()))
    os.execv(sys.argv[2], sys.argv[2:])


main()
