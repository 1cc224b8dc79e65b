/* Poller: every reader of a loop. */

#include "forwarding.h"

#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64
#define ROUNDS 4
#define LONGEST 3600.0 /* seconds of one wait */

/* The epoll set holds numbers and no pointers: an entry that outlives its reader, because another process has the
   socket too or its number was given away, finds nobody or who has the number now, whom one read more does no harm. */
typedef struct {
    PyObject_HEAD
    int fd;
    int other; /* what wait() returns for, which has no reader */
    int capacity;
    Py_ssize_t used;
    Reader **readers; /* by descriptor */
} Poller;

static PyObject *poller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs))) return PyErr_Format(PyExc_TypeError, "nothing");
    Poller *self = (Poller *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->other = -1;
    self->fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->fd >= 0) return (PyObject *)self;
    PyErr_SetFromErrno(PyExc_OSError);
    Py_DECREF(self);
    return NULL;
}

static Reader *reader_of(const Poller *self, int fd) {
    return fd >= 0 && fd < self->capacity ? self->readers[fd] : NULL;
}

/* Room for a descriptor; 0, or -1 with an exception. The system bounds descriptors, and so the table. */
static int grow_readers(Poller *self, int fd) {
    if (fd < self->capacity) return 0;
    int capacity = fd + 1 + fd / 2;
    Reader **readers = PyMem_Realloc(self->readers, (size_t)capacity * sizeof *readers);
    if (!readers) {
        PyErr_NoMemory();
        return -1;
    }
    memset(readers + self->capacity, 0, (size_t)(capacity - self->capacity) * sizeof *readers);
    self->readers = readers, self->capacity = capacity;
    return 0;
}

static PyObject *poller_add(Poller *self, PyObject *args) {
    int fd;
    PyObject *reader;
    if (!PyArg_ParseTuple(args, "iO!", &fd, &ReaderType, &reader)) return NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(self->fd, EPOLL_CTL_ADD, fd, &event) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    if (grow_readers(self, fd) < 0) {
        epoll_ctl(self->fd, EPOLL_CTL_DEL, fd, NULL);
        return NULL;
    }
    Reader *before = self->readers[fd]; /* of a socket that was closed without saying so */
    self->used += !before;
    self->readers[fd] = (Reader *)Py_NewRef(reader);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static PyObject *poller_remove(Poller *self, PyObject *number) {
    long given = PyLong_AsLong(number);
    if (given == -1 && PyErr_Occurred()) return NULL;
    int fd = given < 0 || given > INT_MAX ? -1 : (int)given;
    Reader *before = reader_of(self, fd);
    if (!before) Py_RETURN_NONE;
    epoll_ctl(self->fd, EPOLL_CTL_DEL, fd, NULL);
    self->readers[fd] = NULL;
    self->used--;
    Py_DECREF(before);
    Py_RETURN_NONE;
}

/* Let those that are ready read; -1 with an exception that is to end the loop. */
static int read_ready(Poller *self, const struct epoll_event *ready, int count) {
    int failed = 0;
    for (int at = 0; at < count && !failed; at++) {
        /* Asked for anew each time: a callback may have removed it, or closed us. */
        Reader *reader = reader_of(self, ready[at].data.fd);
        if (!reader) continue;
        Py_INCREF(reader);
        failed = read_some(reader) < 0;
        Py_DECREF(reader);
    }
    return failed ? -1 : 0;
}

static PyObject *poller_follow(Poller *self, PyObject *number) {
    int fd = PyObject_AsFileDescriptor(number);
    if (fd < 0) return NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(self->fd, EPOLL_CTL_ADD, fd, &event) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    self->other = fd;
    Py_RETURN_NONE;
}

/* Rounded up, as the event loop does: a timer must not be looked at before its time. */
static int in_milliseconds(double seconds) {
    if (seconds > LONGEST) return (int)(LONGEST * 1e3);
    return seconds <= 0 ? 0 : (int)(seconds * 1e3 + 0.999);
}

/* Wait so long, below 0 for ever, and serve meanwhile; see wait() in forwarding_python. */
static PyObject *wait_and_serve(Poller *self, double seconds) {
    double until = monotonic() + seconds;
    struct epoll_event ready[BATCH];
    /* Once there is something else to do, packets have some rounds before it. */
    int rounds = ROUNDS, over = 0, followed = 0, failed = 0;
    Py_INCREF(self);
    called = 0;
    while (self->fd >= 0 && !failed && (!(over || called) || --rounds)) {
        int milliseconds = over || called ? 0 : seconds < 0 ? -1 : in_milliseconds(until - monotonic());
        int fd = self->fd, count;
        Py_BEGIN_ALLOW_THREADS
        count = epoll_wait(fd, ready, BATCH, milliseconds);
        Py_END_ALLOW_THREADS
        /* Its time is up, or a signal came. */
        if (count <= 0) break;
        int others = 0;
        for (int at = 0; at < count; at++) others |= ready[at].data.fd == self->other;
        followed |= others;
        over |= others;
        if (others && count == 1) break;
        failed = read_ready(self, ready, count) < 0;
        over |= seconds >= 0 && monotonic() >= until;
    }
    /* Closed by what was read: whoever waits has to look for itself. */
    followed |= self->fd < 0;
    Py_DECREF(self);
    return failed ? NULL : PyBool_FromLong(followed);
}

static PyObject *poller_wait(Poller *self, PyObject *number) {
    double seconds = PyFloat_AsDouble(number);
    return seconds == -1 && PyErr_Occurred() ? NULL : wait_and_serve(self, seconds);
}

static PyObject *poller_serve(Poller *self, PyObject *Py_UNUSED(nothing)) {
    PyObject *followed = wait_and_serve(self, 0);
    if (followed == NULL) return NULL;
    Py_DECREF(followed);
    Py_RETURN_NONE;
}

static PyObject *poller_fileno(Poller *self, PyObject *Py_UNUSED(nothing)) { return PyLong_FromLong(self->fd); }

static int poller_clear(PyObject *op) {
    Poller *self = (Poller *)op;
    Reader **readers = self->readers;
    int capacity = self->capacity;
    if (self->fd >= 0) close(self->fd);
    self->fd = -1;
    self->readers = NULL, self->capacity = 0, self->used = 0;
    for (int at = 0; at < capacity; at++) Py_XDECREF(readers[at]);
    PyMem_Free(readers);
    return 0;
}

static PyObject *poller_close(Poller *self, PyObject *Py_UNUSED(nothing)) {
    poller_clear((PyObject *)self);
    Py_RETURN_NONE;
}

static Py_ssize_t poller_length(PyObject *self) { return ((Poller *)self)->used; }

static int poller_traverse(PyObject *op, visitproc visit, void *arg) {
    Poller *self = (Poller *)op;
    for (int at = 0; at < self->capacity; at++) Py_VISIT(self->readers[at]);
    return 0;
}

static void poller_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    poller_clear(self);
    PyObject_GC_Del(self);
}

static PyMethodDef poller_methods[] = {
    {"add", (PyCFunction)poller_add, METH_VARARGS, NULL},
    {"remove", (PyCFunction)poller_remove, METH_O, NULL},
    {"serve", (PyCFunction)poller_serve, METH_NOARGS, NULL},
    {"follow", (PyCFunction)poller_follow, METH_O, NULL},
    {"wait", (PyCFunction)poller_wait, METH_O, NULL},
    {"fileno", (PyCFunction)poller_fileno, METH_NOARGS, NULL},
    {"close", (PyCFunction)poller_close, METH_NOARGS, NULL},
    {NULL},
};

static PySequenceMethods poller_sequence = {.sq_length = poller_length};

PyTypeObject PollerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.rtc._forwarding.Poller",
    .tp_basicsize = sizeof(Poller),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "Serves every ready reader in one callback of the event loop; see forwarding_python.",
    .tp_new = poller_new,
    .tp_dealloc = poller_dealloc,
    .tp_traverse = poller_traverse,
    .tp_clear = poller_clear,
    .tp_as_sequence = &poller_sequence,
    .tp_methods = poller_methods,
};
