"""With this folder on PYTHONPATH, all code of Limelight runs as on a system that has no POSIX.

Python loads this module in every process that it starts. Whatever Limelight imports `os`, `signal` or `multiprocessing`
gets one without the names that Windows lacks; the libraries beneath, which have their own ways there, get the whole.
"""

import builtins
import types

LACKING = {
    "os": ("fork", "forkpty", "killpg", "setsid", "getpgid", "nice", "mkfifo", "getuid", "umask", "sched_getaffinity"),
    "signal": ("SIGKILL", "SIGHUP", "SIGALRM", "SIGQUIT", "setitimer", "alarm", "pthread_kill"),
    "multiprocessing": ("forkserver",),
}
_really, _poor = builtins.__import__, {}


def _without(name):
    if name not in _poor:
        whole = _really(name)
        _poor[name] = types.ModuleType(name)
        _poor[name].__dict__.update({key: value for key, value in vars(whole).items() if key not in LACKING[name]})
        if name == "multiprocessing":
            _poor[name].get_all_start_methods = lambda: ["spawn"]
            _poor[name].__path__ = []  # so that nothing is imported from within
    return _poor[name]


def _import(name, globals=None, locals=None, fromlist=(), level=0):
    asking = (globals or {}).get("__name__", "")
    if level == 0 and asking.split(".")[0] == "limelight":
        if name == "multiprocessing" and "forkserver" in (fromlist or ()):
            raise ImportError("there is no fork server here")
        if name in LACKING:
            return _without(name)
    return _really(name, globals, locals, fromlist, level)


builtins.__import__ = _import
