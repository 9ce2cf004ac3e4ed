"""A Spark Connect server with two cores; says its address, and ends with its standard input."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.plugins", "org.apache.spark.sql.connect.SparkConnectPlugin")
        .config("spark.connect.grpc.binding.port", "0")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    service = getattr(session._jvm.org.apache.spark.sql.connect.service, "SparkConnectService$")
    port = getattr(service, "MODULE$").localPort()
    print(f"sc://127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    session.stop()
