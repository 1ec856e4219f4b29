"""The metrics again, frame by frame and joint by joint, for comparison and as a yardstick of speed."""

import math

import numpy as np

from utils.skeleton import SMPL_24

HL, SW, HW = 0.2568381089, 0.3908483588, 0.1192470664
NAMES = SMPL_24.joints
DT = 1 / 60


def kinetic(p):
    p = np.asarray(p, np.float64)
    frames, out = len(p), []
    for j in range(24):
        horizontal = vertical = expenditure = 0.0
        for i in range(1, frames):
            velocity, n = np.zeros(3), 0
            for s in range(i - 2, i + 3):
                if 1 <= s < frames:
                    velocity = velocity + (p[s, j] - p[s - 1, j]) / DT
                    n += 1
            velocity = velocity / n
            horizontal += velocity[0] ** 2 + velocity[2] ** 2
            vertical += velocity[1] ** 2
            acceleration, n = np.zeros(3), 0
            for s in range(i - 2, i + 3):
                if 1 <= s < frames - 1:
                    after = (p[s + 1, j] - p[s, j]) / DT
                    before = p[s, j] - p[s - 1, j] / DT
                    acceleration = acceleration + (after - before) / DT
                    n += 1
            expenditure += np.linalg.norm(acceleration / n)
        out += [horizontal / (frames - 1), vertical / (frames - 1), expenditure / (frames - 1)]
    return np.array(out)


def geometric(p):
    p = np.asarray(p, np.float64)
    total = np.zeros(32)
    for i in range(1, len(p)):
        total += frame_tests(p[i], p[i - 1])
    return total / (len(p) - 1)


def frame_tests(now, last):
    at = {name: now[j] for j, name in enumerate(NAMES)}
    was = {name: last[j] for j, name in enumerate(NAMES)}
    at["origin"], at["up"], at["down"] = np.zeros(3), np.array([0, 1.0, 0]), np.array([0, -1.0, 0])
    at["floor"] = np.array([0, now[:, 1].min(), 0])

    def unit(v):
        return v / np.linalg.norm(v)

    def nmove(a, b, c, d, threshold):
        normal = unit(np.cross(at[c] - at[a], at[b] - at[a]))
        return 120 * np.dot((at[d] - at[a]) - (was[d] - was[a]), normal) > threshold

    def move(a, b, c, threshold):
        return 120 * np.dot((at[c] - at[a]) - (was[c] - was[a]), unit(at[b] - at[a])) > threshold

    def plane(a, b, c, d, threshold):
        return np.dot(at[d] - at[a], unit(np.cross(at[c] - at[a], at[b] - at[a]))) > threshold

    def nplane(a, b, c, d, threshold):
        return np.dot(at[d] - at[c], unit(at[b] - at[a])) > threshold

    def angle(a, b, c, d, low, high):
        cosine = np.dot(unit(at[b] - at[a]), unit(at[d] - at[c]))
        return low < math.degrees(math.acos(min(1.0, max(-1.0, cosine)))) < high

    def fast(a, threshold):
        return 120 * np.linalg.norm(at[a] - was[a]) > threshold

    return [
        nmove("neck", "right_hip", "left_hip", "right_wrist", 1.8 * HL),
        nmove("neck", "left_hip", "right_hip", "left_wrist", 1.8 * HL),
        nplane("spine3", "neck", "neck", "right_wrist", 0.2 * HL),
        nplane("spine3", "neck", "neck", "left_wrist", 0.2 * HL),
        move("spine1", "spine3", "spine3", 1.8 * HL),
        move("spine1", "spine3", "spine3", 1.8 * HL),
        angle("right_elbow", "right_shoulder", "right_elbow", "right_wrist", 0, 110),
        angle("left_elbow", "left_shoulder", "left_elbow", "left_wrist", 0, 110),
        nplane("left_shoulder", "right_shoulder", "left_wrist", "right_wrist", 2.5 * SW),
        move("left_wrist", "right_wrist", "right_wrist", 1.4 * HL),
        move("right_wrist", "pelvis", "left_wrist", 1.4 * HL),
        move("left_wrist", "pelvis", "right_wrist", 1.4 * HL),
        fast("right_wrist", 2.5 * HL),
        fast("left_wrist", 2.5 * HL),
        plane("pelvis", "left_hip", "left_foot", "right_ankle", 0.38 * HL),
        plane("pelvis", "right_hip", "right_foot", "left_ankle", 0.38 * HL),
        nplane("origin", "up", "floor", "right_ankle", 1.2 * HL),
        nplane("origin", "up", "floor", "left_ankle", 1.2 * HL),
        nplane("left_hip", "right_hip", "left_ankle", "right_ankle", 2.1 * HW),
        angle("right_knee", "right_hip", "right_knee", "right_ankle", 0, 110),
        angle("left_knee", "left_hip", "left_knee", "left_ankle", 0, 110),
        fast("right_ankle", 2.5 * HL),
        fast("left_ankle", 2.5 * HL),
        angle("neck", "pelvis", "right_shoulder", "right_elbow", 25, 180),
        angle("neck", "pelvis", "left_shoulder", "left_elbow", 25, 180),
        angle("neck", "pelvis", "right_hip", "right_knee", 50, 180),
        angle("neck", "pelvis", "left_hip", "left_knee", 50, 180),
        plane("right_ankle", "neck", "left_ankle", "pelvis", 0.5 * HL),
        angle("neck", "pelvis", "origin", "up", 70, 110),
        nplane("origin", "down", "floor", "right_wrist", -1.2 * HL),
        nplane("origin", "down", "floor", "left_wrist", -1.2 * HL),
        fast("pelvis", 2.3 * HL),
    ]


def diversity(features):
    total = count = 0
    for i in range(len(features)):
        for j in range(i + 1, len(features)):
            total += np.linalg.norm(features[i] - features[j])
            count += 1
    return total / count


def beat_score(music, motion, sigma=3.0):
    total = 0.0
    for beat in music:
        total += max(math.exp(-((beat - other) ** 2) / (2 * sigma**2)) for other in motion)
    return total / len(music)


def pfc(p):
    """At 30 fps, y up."""
    a, feet = [], []
    for t in range(len(p) - 2):
        second = (p[t + 2, 0] - 2 * p[t + 1, 0] + p[t, 0]) * 900
        second = np.array([second[0], max(second[1], 0.0), second[2]])
        a.append(np.linalg.norm(second))
        step = [np.hypot(*(p[t + 2, j] - p[t + 1, j])[[0, 2]]) for j in (7, 10, 8, 11)]
        feet.append(min(step[:2]) * min(step[2:]))
    return 1e4 * float(np.mean([x / max(a) * f for x, f in zip(a, feet, strict=True)]))
