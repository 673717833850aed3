from probe_settings import *

ROOT_URLCONF = "faults_urls"
