/* The module: what all files share, and configure(), which sets it. */

#include "forwarding.h"

/* What Python asks of this library, as a number: names, arguments and their meaning. forwarding.py has the same. */
#define INTERFACE 3
#define TRAILER 144 /* SRTP_MAX_TRAILER_LEN of libsrtp 2: what protecting may add */

/* In the order of the enumeration in forwarding.h. */
static const char *const CAUSE_NAMES[CAUSES] = {"NOT_READY", "PAYLOAD_TYPE", "RATE", "SSRC", "REPLAY", "NOT_AUTHENTIC",
                                                "OTHER_LEG_NOT_READY", "MALFORMED", "SEND_FAILED"};

PyObject *causes[CAUSES];
Py_buffer packet;
uint8_t *data;
PyObject *view;
int read_bytes;
srtp_function srtp_unprotect, srtp_protect;
int called;

static PyObject *configure(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *buffer, *piece_source, *names, *unprotect, *protect;
    int bytes;
    if (!PyArg_ParseTuple(args, "OOiO!O!O!", &buffer, &piece_source, &bytes, &PyLong_Type, &unprotect, &PyLong_Type,
                          &protect, &PyDict_Type, &names))
        return NULL;
    if (data) Py_RETURN_NONE;
    for (int at = 0; at < CAUSES; at++) {
        PyObject *cause = PyDict_GetItemString(names, CAUSE_NAMES[at]);
        if (!cause) return PyErr_Format(PyExc_ValueError, "no drop cause %s", CAUSE_NAMES[at]);
        Py_XSETREF(causes[at], Py_NewRef(cause));
    }
    srtp_unprotect = (srtp_function)PyLong_AsVoidPtr(unprotect);
    srtp_protect = (srtp_function)PyLong_AsVoidPtr(protect);
    if (!srtp_unprotect || !srtp_protect) return PyErr_Format(PyExc_ValueError, "no libsrtp");
    if (PyObject_GetBuffer(buffer, &packet, PyBUF_WRITABLE) < 0) return NULL;
    if (bytes < MAX_DATAGRAM || bytes > packet.len - TRAILER) {
        PyBuffer_Release(&packet);
        return PyErr_Format(PyExc_ValueError, "the packet buffer is too small");
    }
    view = Py_NewRef(piece_source);
    read_bytes = bytes;
    data = packet.buf;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {{"configure", configure, METH_VARARGS, NULL}, {NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "relay.rtc._forwarding", NULL, -1, module_methods};

PyMODINIT_FUNC PyInit__forwarding(void) {
    PyObject *self = PyModule_Create(&module);
    if (!self || PyModule_AddIntMacro(self, INTERFACE) < 0 || PyType_Ready(&SenderType) < 0 ||
        PyModule_AddType(self, &ReaderType) < 0 || PyModule_AddType(self, &ForwarderType) < 0 ||
        PyModule_AddType(self, &PollerType) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    return self;
}
