"""Blur and resize an image and keep the steps."""

import time

import cv2
import numpy as np

image = np.full((3000, 4000, 3), 7, np.uint8)


def steps(picture):
    """Return a blurred, a resized and a grey copy."""
    blurred = cv2.GaussianBlur(picture, (15, 15), 0)
    return blurred, cv2.resize(blurred, (5000, 4000)), cv2.cvtColor(blurred, cv2.COLOR_BGR2GRAY)


kept = steps(image)
time.sleep(1.5)
print([each.shape for each in kept])
