"""A client of Istio's certificate service whose every part is foreign: grpcio, stubs generated from ca.proto, cryptography.

Reads a job (JSON) from its input: where to ask, and what, in order. Writes keys, requests and chains below the current folder,
and for each question code, message and number of chain elements (JSON) to its output.
"""

import importlib
import json
import os
import sys

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from grpc_tools import protoc

KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def stubs(folder):
    """The messages and the service, generated from the contract."""
    well_known = os.path.join(os.path.dirname(protoc.__file__), "_proto")
    arguments = ["protoc", f"-I{folder}", f"-I{well_known}", "--python_out=.", "--grpc_python_out=.", "ca.proto"]
    if protoc.main(arguments) != 0:
        raise RuntimeError("ca.proto cannot be compiled")
    sys.path.insert(0, os.getcwd())
    return importlib.import_module("ca_pb2"), importlib.import_module("ca_pb2_grpc")


def request(key, lies):
    """A certificate request, with everything that a caller could wish for."""
    name = [x509.NameAttribute(x509.NameOID.COMMON_NAME, lies["cn"])] if "cn" in lies else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(name))
    if "sans" in lies:
        names = [x509.UniformResourceIdentifier(one) if "://" in one else x509.DNSName(one) for one in lies["sans"]]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if lies.get("ca"):
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def write(name, text):
    with open(name, "w", encoding="ascii") as file:
        file.write(text)


def read(name):
    with open(name, "rb") as file:
        return file.read()


def ask(job, question, messages, services):
    """One question over a connection of its own."""
    name = question["name"]
    key = KEYS[question.get("key", "p256")]()
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
    write(f"{name}.key.pem", pem)
    own = question.get("as")
    shown = (read(f"{own}.key.pem"), read(f"{own}.chain.pem")) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(job["roots"].encode(), *shown)
    csr = question.get("csr") or request(key, question.get("lies", {}))
    message = messages.IstioCertificateRequest(csr=csr, validity_duration=question.get("seconds", 0))
    metadata = [("authorization", f"Bearer {question['token']}")] if "token" in question else []
    metadata.append(("clusterid", "Kubernetes"))
    with grpc.secure_channel(job["address"], credentials) as channel:
        try:
            answer = services.IstioCertificateServiceStub(channel).CreateCertificate(message, metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            return {"name": name, "code": error.code().name, "message": error.details(), "elements": 0}
    chain = list(answer.cert_chain)
    write(f"{name}.leaf.pem", chain[0])
    write(f"{name}.chain.pem", "".join(chain[:-1]))
    write(f"{name}.roots.pem", chain[-1])
    return {"name": name, "code": "OK", "message": "", "elements": len(chain)}


def main():
    job = json.load(sys.stdin)
    messages, services = stubs(os.path.dirname(os.path.abspath(__file__)))
    json.dump([ask(job, question, messages, services) for question in job["questions"]], sys.stdout)


main()
