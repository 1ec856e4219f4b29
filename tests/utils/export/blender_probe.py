"""What Blender makes of an exported dance, following docs/BLENDER.md: run by a Python that has bpy.

    BPY_PYTHON tests/utils/export/blender_probe.py REQUEST.json

REQUEST has `file` and `out`, and optionally `song`, `fbx` (export to it and read that instead), `render`
(folder for pictures), `frames` (numbers of the dance's frames, halves allowed) and `fps`. The answer is OUT,
an .npz: joints at those frames as Blender has them (z up, metres), names of the bones, what the scene says.
"""

import json
import math
import os
import sys
from pathlib import Path

import bpy
import numpy as np


def read_glb(path: str, fps: float) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = round(fps), 1.0  # before the import: it places the keys
    bpy.ops.import_scene.gltf(filepath=path, bone_heuristic="FORTUNE")
    last = max(action.frame_range[1] for action in bpy.data.actions)
    scene.frame_start, scene.frame_end = 0, round(last)


def read_bvh(path: str) -> None:
    bpy.ops.import_anim.bvh(
        filepath=path, global_scale=0.01, update_scene_fps=True, update_scene_duration=True
    )


def through_fbx(path: str, fps: float) -> None:
    """Writes the scene as .fbx and reads that into an empty one."""
    bpy.ops.export_scene.fbx(
        filepath=path,
        object_types={"ARMATURE", "MESH"},
        add_leaf_bones=False,
        bake_anim=True,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_simplify_factor=0.0,
    )
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = round(fps)
    bpy.ops.import_scene.fbx(filepath=path)


def with_song(path: str, start: int) -> int:
    """Frames that the song takes in the sequencer; -1 if this Blender was built without sound."""
    if not bpy.app.build_options.audaspace:
        return -1
    scene = bpy.context.scene
    scene.sequence_editor_create()
    strip = scene.sequence_editor.sequences.new_sound("song", path, channel=1, frame_start=start)
    return int(strip.frame_final_duration)


def at(frame: float) -> None:
    bpy.context.scene.frame_set(math.floor(frame), subframe=frame - math.floor(frame))


def placed(armature) -> tuple[list[str], np.ndarray]:
    one = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    bones = one.pose.bones
    return [b.name for b in bones], np.array([one.matrix_world @ b.head for b in bones])


def lowest_of(mesh) -> float:
    one = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    data = one.to_mesh()
    points = np.empty(3 * len(data.vertices), np.float32)
    data.vertices.foreach_get("co", points)
    matrix = np.array(one.matrix_world)
    height = (points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])[:, 2].min()
    one.to_mesh_clear()
    return float(height)


def draw(folder: Path, armature, meshes, frames: list[float]) -> None:
    """Pictures with a plane at height 0; bones that have no skin are drawn as sticks."""
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=6, location=(0, 0, 0))
    plane = bpy.context.object
    stone = bpy.data.materials.new("ground")
    stone.diffuse_color = (0.25, 0.25, 0.28, 1)
    stone.use_nodes = True
    stone.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.25, 0.25, 0.28, 1)
    plane.data.materials.append(stone)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 4.0, (0.7, 0.2, 0.4)
    for thing in (camera, sun):
        scene.collection.objects.link(thing)
    scene.camera = camera
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 12, "CPU"
    scene.render.resolution_x, scene.render.resolution_y = 360, 300
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.6, 0.7, 0.8, 1)
    scene.world = world
    for number, frame in enumerate(frames):
        at(frame)
        names, heads = placed(armature)
        middle = heads[names.index("pelvis")] if "pelvis" in names else heads[1]
        plane.location = (middle[0], middle[1], 0)
        camera.location = (middle[0] + 1.2, middle[1] - 4.6, 1.0)
        camera.rotation_euler = (math.radians(88), 0, math.radians(14.6))
        sticks = []
        if not meshes:
            for bone in armature.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones:
                start, end = armature.matrix_world @ bone.head, armature.matrix_world @ bone.tail
                if bone.name == "root":
                    continue
                bpy.ops.mesh.primitive_cylinder_add(
                    radius=0.02, depth=(end - start).length, location=(start + end) / 2
                )
                bpy.context.object.rotation_mode = "QUATERNION"
                bpy.context.object.rotation_quaternion = (end - start).to_track_quat("Z", "Y")
                sticks.append(bpy.context.object)
        scene.render.filepath = str(folder / f"{number}.png")
        bpy.ops.render.render(write_still=True)
        for stick in sticks:
            bpy.data.objects.remove(stick)


def main() -> None:
    request = json.loads(Path(sys.argv[-1]).read_text())
    path, fps = request["file"], request.get("fps", 60.0)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if path.endswith(".glb"):
        read_glb(path, fps)
    else:
        read_bvh(path)
    if request.get("fbx"):
        through_fbx(request["fbx"], fps)
    scene = bpy.context.scene
    armature = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    meshes = [thing for thing in bpy.data.objects if thing.type == "MESH" and thing.modifiers]
    action = armature.animation_data.action
    first, last = action.frame_range
    song = with_song(request["song"], round(first)) if request.get("song") else 0
    names = [bone.name for bone in armature.data.bones]
    joints, lowest = [], []
    for frame in request.get("frames", []):
        at(first + frame)
        joints.append(placed(armature)[1])
        lowest.append(min(map(lowest_of, meshes)) if meshes else math.nan)
    if request.get("render"):
        frames = request["frames"]
        shown = [first + frame for frame in frames[:: max(1, len(frames) // 3)]]
        draw(Path(request["render"]), armature, meshes, shown)
    armature.data.pose_position = "REST"
    bpy.context.view_layer.update()
    rest = placed(armature)[1]
    facts = {
        "fps": scene.render.fps / scene.render.fps_base,
        "scene": [scene.frame_start, scene.frame_end],
        "action": [first, last],
        "keys": max(len(curve.keyframe_points) for curve in action.fcurves),
        "song": song,
        "rest_lowest_mesh": min(map(lowest_of, meshes)) if meshes else math.nan,
        "meshes": len(meshes),
        "lengths": [bone.length for bone in armature.data.bones],
    }
    told = json.dumps(facts)
    np.savez(request["out"], names=names, joints=np.array(joints), lowest=lowest, rest=rest, facts=told)
    sys.stdout.flush()
    os._exit(0)  # bpy may crash while Python shuts down


main()
